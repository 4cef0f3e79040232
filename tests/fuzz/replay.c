/*
 * Feeds a target every file of the folders in argv, and every file with its second half, its last
 * byte and its first byte missing, so that a small corpus also covers truncation. Fails, by
 * crashing, where the target does; also when there was nothing to feed.
 */
#include <dirent.h>
#include <limits.h>
#include <string.h>

#include "els/mem.h"
#include "fuzz.h"

static void feed(const uint8_t *data, size_t size)
{
    /* A copy that ends where the input ends: a sanitizer sees every step beyond it. */
    uint8_t *exact = els_alloc_array(size, 1);

    FUZZ_CHECK(exact);
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static void replay(const char *path)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(1 << 24);
    FILE *f = fopen(path, "rb");
    char block[4096];
    size_t n;

    FUZZ_CHECK(f);
    while ((n = fread(block, 1, sizeof(block), f)) > 0)
        FUZZ_CHECK(els_buffer_append(&bytes, block, n) == 0);
    FUZZ_CHECK(!ferror(f));
    fclose(f);
    FUZZ_CHECK(els_buffer_append(&bytes, "", 1) == 0);
    n = bytes.size - 1;
    feed(bytes.data, n);
    feed(bytes.data, n / 2);
    if (n > 0) {
        feed(bytes.data, n - 1);
        feed(bytes.data + 1, n - 1);
    }
    els_buffer_deinit(&bytes);
}

int main(int argc, char **argv)
{
    char path[PATH_MAX];
    int files = 0;

    feed((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        struct dirent *entry;

        FUZZ_CHECK(dir);
        while ((entry = readdir(dir)))
            if (entry->d_name[0] != '.') {
                snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
                replay(path);
                files++;
            }
        closedir(dir);
    }
    printf("%d files survived\n", files);
    return files > 0 ? 0 : 1;
}
