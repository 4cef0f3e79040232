/*
 * A safetensors container, and the bank that it may be. Every tensor that parsing lets through must
 * lie inside the bytes, every image of a bank must be finite.
 */
#include <math.h>
#include <string.h>

#include "els/bank.h"
#include "els/mem.h"
#include "els/safetensors.h"
#include "fuzz.h"

static void check_container(const struct els_safetensors *st, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < els_safetensors_count(st); i++) {
        const struct els_named_tensor *t = els_safetensors_at(st, i);
        const uint8_t *bytes = t->tensor.data;
        size_t n = els_tensor_bytes(&t->tensor);

        FUZZ_CHECK(n == 0 || (bytes >= data && n <= size && (size_t)(bytes - data) <= size - n));
        FUZZ_CHECK(els_safetensors_find(st, t->name) == &t->tensor);
    }
}

static void check_bank(const struct els_bank *bank)
{
    const struct els_bank_info *info = els_bank_info(bank);
    size_t values = els_shape_values(info->shape);
    float *x = els_alloc_array(values, sizeof(*x));

    FUZZ_CHECK(x && info->num_images > 0);
    for (int64_t i = 0; i < info->num_images && i < 16; i++) {
        els_bank_image(bank, i, x);
        for (size_t k = 0; k < values; k++)
            FUZZ_CHECK(isfinite(x[k]));
    }
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct els_safetensors *st = NULL;
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    if (els_safetensors_parse(&st, data, size, &err) == 0)
        check_container(st, data, size);
    else
        FUZZ_CHECK(err.message[0]);
    els_safetensors_free(st);
    if (els_bank_parse(&bank, data, size, "fuzz", &err) == 0)
        check_bank(bank);
    els_bank_unref(bank);
    return 0;
}
