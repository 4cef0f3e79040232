/*
 * A NumPy array file. What is read, written and read again must be the same array.
 */
#include <string.h>

#include "els/mem.h"
#include "els/npy.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct els_buffer out = ELS_BUFFER_INIT(1 << 24);
    struct els_tensor x, y;
    struct els_error err = {0};

    if (els_npy_parse(&x, data, size, &err) < 0) {
        FUZZ_CHECK(err.message[0]);
        return 0;
    }
    FUZZ_CHECK(els_npy_write(&out, &x) == 0);
    FUZZ_CHECK(els_npy_parse(&y, out.data, out.size, &err) == 0);
    FUZZ_CHECK(x.dtype == y.dtype && x.ndim == y.ndim && els_tensor_bytes(&x) == els_tensor_bytes(&y));
    FUZZ_CHECK(els_tensor_bytes(&x) == 0 || memcmp(x.data, y.data, els_tensor_bytes(&x)) == 0);
    els_buffer_deinit(&out);
    return 0;
}
