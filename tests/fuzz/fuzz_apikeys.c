/*
 * A file of API keys. No token that is shorter than a key may be found in one that passes.
 */
#include <sys/stat.h>

#include "fuzz.h"
#include "server/config/apikeys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    struct srv_apikey key;
    int fd = fuzz_file(data, size, path);
    struct srv_apikeys *keys = NULL;
    struct els_error err = {0};

    FUZZ_CHECK(fchmod(fd, 0600) == 0);
    if (srv_apikeys_open(&keys, path, &err) == 0) {
        FUZZ_CHECK(srv_apikeys_count(keys) > 0 && srv_apikeys_name(keys, 0)[0]);
        FUZZ_CHECK(!srv_apikeys_find(keys, "no key", &key));
    } else {
        FUZZ_CHECK(err.message[0]);
    }
    srv_apikeys_free(keys);
    close(fd);
    return 0;
}
