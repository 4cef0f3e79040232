/*
 * The safetensors container, and the untrusted JSON and text beneath it.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/base/utf8.h"
#include "els/safetensors.h"
#include "hostile.h"
#include "unit.h"

static int parse(const void *bytes, size_t size, void *user)
{
    struct els_safetensors *st = NULL;
    struct els_error err = {0};
    int r = els_safetensors_parse(&st, bytes, size, &err);
    volatile uint8_t sum = 0;

    ck_assert_int_eq(r, err.code);
    ck_assert((r == 0) == (st != NULL));
    for (size_t i = 0; st && i < els_safetensors_count(st); i++) {
        const struct els_named_tensor *t = els_safetensors_at(st, i);

        for (size_t k = 0; k < els_tensor_bytes(&t->tensor); k++)
            sum = (uint8_t)(sum + ((const uint8_t *)t->tensor.data)[k]);
    }
    els_safetensors_free(st);
    return r;
}

/* The header's text and `data` zero bytes, as a file. */
static void make(struct els_buffer *b, const char *header, size_t data)
{
    uint64_t n = strlen(header);
    void *zeros;

    ck_assert_int_eq(els_buffer_append(b, &n, 8), 0);
    ck_assert_int_eq(els_buffer_append(b, header, n), 0);
    ck_assert_int_eq(els_buffer_extend(b, data, &zeros), 0);
    memset(zeros, 0, data);
}

static void write_sample(struct els_buffer *b)
{
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t labels[2] = {7, -1};
    const struct els_named_tensor t[] = {
        {"x", els_tensor_view(ELS_F32, 2, (const int64_t[]){2, 3}, x)},
        {"empty", els_tensor_view(ELS_U8, 2, (const int64_t[]){0, 5}, x)},
        {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){2}, labels)},
        {"one", els_tensor_view(ELS_U8, 0, NULL, x)},
    };
    const char *const keys[] = {"name", "note"}, *const values[] = {"sample", "a \"b\"\n\\ \xc3\xa9"};

    ck_assert_int_eq(els_safetensors_write(b, t, 4, keys, values, 2), 0);
}

START_TEST(test_round_trip)
{
    struct els_buffer b = ELS_BUFFER_INIT(1 << 20), again = ELS_BUFFER_INIT(1 << 20);
    struct els_safetensors *st = NULL;
    const struct els_tensor *x;

    write_sample(&b);
    write_sample(&again);
    ck_assert_uint_eq(b.size, again.size);
    ck_assert_mem_eq(b.data, again.data, b.size);
    ck_assert_int_eq(els_safetensors_parse(&st, b.data, b.size, NULL), 0);
    ck_assert_uint_eq(els_safetensors_count(st), 4);
    ck_assert_str_eq(els_safetensors_at(st, 0)->name, "x");
    ck_assert_str_eq(els_safetensors_at(st, 1)->name, "empty");
    ck_assert_str_eq(els_safetensors_at(st, 3)->name, "one");
    x = els_safetensors_find(st, "x");
    ck_assert_ptr_nonnull(x);
    ck_assert_int_eq(x->dtype, ELS_F32);
    ck_assert_int_eq(x->ndim, 2);
    ck_assert_int_eq(x->dims[1], 3);
    ck_assert_uint_eq(((uintptr_t)x->data - (uintptr_t)b.data) % 8, 0);
    ck_assert_mem_eq(x->data, ((const float[]){1, 2, 3, 4, 5, 6}), 24);
    ck_assert_ptr_null(els_safetensors_find(st, "y"));
    ck_assert_str_eq(els_safetensors_metadata(st, "note"), "a \"b\"\n\\ \xc3\xa9");
    ck_assert_ptr_null(els_safetensors_metadata(st, "nothing"));
    ck_assert_ptr_null(els_safetensors_free(st));
    els_buffer_deinit(&b);
    els_buffer_deinit(&again);
}
END_TEST

START_TEST(test_no_tensors_no_metadata)
{
    struct els_buffer b = ELS_BUFFER_INIT(100);
    struct els_safetensors *st = NULL;

    ck_assert_int_eq(els_safetensors_write(&b, NULL, 0, NULL, NULL, 0), 0);
    ck_assert_int_eq(els_safetensors_parse(&st, b.data, b.size, NULL), 0);
    ck_assert_uint_eq(els_safetensors_count(st), 0);
    ck_assert_ptr_null(els_safetensors_metadata(st, "name"));
    els_safetensors_free(st);
    els_buffer_deinit(&b);
}
END_TEST

START_TEST(test_write_keeps_to_the_maximum)
{
    const struct els_named_tensor t = {"x", els_tensor_view(ELS_U8, 1, (const int64_t[]){5}, "abcde")};
    struct els_buffer whole = ELS_BUFFER_INIT(1 << 20);

    ck_assert_int_eq(els_safetensors_write(&whole, &t, 1, NULL, NULL, 0), 0);
    for (size_t max = 0; max < whole.size; max++) {
        struct els_buffer b = ELS_BUFFER_INIT(max);

        ck_assert_int_eq(els_safetensors_write(&b, &t, 1, NULL, NULL, 0), ELS_ELIMIT);
        ck_assert_uint_eq(b.size, 0);
        els_buffer_deinit(&b);
    }
    els_buffer_deinit(&whole);
}
END_TEST

#define X "\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"

START_TEST(test_headers)
{
    static const struct {
        const char *header;
        size_t data;
        int code;
        const char *says;
    } cases[] = {
        {"{" X "}", 4, 0, ""},
        {"{" X "}   ", 4, 0, ""},
        {" {" X "}", 4, ELS_EFORMAT, "begin with"},
        {"[1]", 0, ELS_EFORMAT, "begin with"},
        {"{" X "}", 5, ELS_EFORMAT, "5 bytes of data follow"},
        {"{" X "}", 3, ELS_EFORMAT, "outside the 3 bytes"},
        {"{" X "," X "}", 4, ELS_EFORMAT, "duplicate"},
        {"{" X ",\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "no gaps"},
        {"{" X ",\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4, ELS_EFORMAT, "no gaps"},
        {"{" X ",\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}", 8, ELS_EFORMAT, "no gaps"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, ELS_EFORMAT, "outside"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-4,0]}}", 4, ELS_EFORMAT, "outside"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, ELS_EFORMAT, "two whole"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4.0]}}", 4, ELS_EFORMAT, "two whole"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":\"04\"}}", 4, ELS_EFORMAT, "two whole"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "[3] of U8 needs 3"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "needs 16"},
        {"{\"x\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "U8 I32 I64"},
        {"{\"x\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "not a string"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "whole number"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "whole number"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, ELS_EFORMAT, "not an array"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4, ELS_ELIMIT,
         "9 dimensions"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, ELS_ELIMIT,
         "does not fit"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}}", 0,
         ELS_ELIMIT, "does not fit"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0, ELS_EFORMAT,
         "too big"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"more\":1}}", 4, ELS_EFORMAT,
         "exactly"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, ELS_EFORMAT, "exactly"},
        {"{\"x\":[]}", 0, ELS_EFORMAT, "exactly"},
        {"{\"__metadata__\":[]}", 0, ELS_EFORMAT, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, ELS_EFORMAT, "__metadata__.a"},
        {"{\"__metadata__\":{\"a\":[[[[]]]]}}", 0, ELS_EFORMAT, "nested deeper than 4 levels"},
        {"{\"x\\u0000\":1}", 0, ELS_EFORMAT, "malformed"},
        {"{\"\xff\":1}", 0, ELS_EFORMAT, "malformed"},
        {"{} {}", 0, ELS_EFORMAT, "malformed"},
        {"{", 0, ELS_EFORMAT, "malformed"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct els_buffer b = ELS_BUFFER_INIT(1 << 20);
        struct els_safetensors *st = NULL;
        struct els_error err = {0};

        make(&b, cases[i].header, cases[i].data);
        ck_assert_msg(els_safetensors_parse(&st, b.data, b.size, &err) == cases[i].code, "%s: %s",
                      cases[i].header, err.message);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s: '%s' does not say '%s'",
                      cases[i].header, err.message, cases[i].says);
        els_safetensors_free(st);
        els_buffer_deinit(&b);
    }
}
END_TEST

START_TEST(test_header_length_lies)
{
    const uint64_t lengths[] = {3, 1000, 17 << 20, UINT64_MAX, UINT64_MAX - 7};
    uint8_t file[10] = "........{}";

    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        memcpy(file, &lengths[i], 8);
        ck_assert_int_lt(parse(file, sizeof(file), NULL), 0);
    }
    memcpy(file, &(const uint64_t){2}, 8);
    ck_assert_int_eq(parse(file, sizeof(file), NULL), 0);
}
END_TEST

START_TEST(test_deep_and_wide_headers_are_refused_cheaply)
{
    struct els_buffer b = ELS_BUFFER_INIT(20 << 20);
    uint64_t n = 8 << 20;
    void *to;

    ck_assert_int_eq(els_buffer_append(&b, &n, 8), 0);
    ck_assert_int_eq(els_buffer_extend(&b, n, &to), 0);
    memset(to, '[', n);
    b.data[8] = '{';
    ck_assert_int_eq(parse(b.data, b.size, NULL), ELS_EFORMAT);
    for (uint64_t i = 0; i < n; i++)
        ((char *)to)[i] = i % 2 ? ',' : '0';
    b.data[8] = '{';
    ck_assert_int_eq(parse(b.data, b.size, NULL), ELS_ELIMIT);
    els_buffer_deinit(&b);
}
END_TEST

START_TEST(test_hostile)
{
    struct els_buffer b = ELS_BUFFER_INIT(1 << 20);

    write_sample(&b);
    hostile_cut(b.data, b.size, parse, NULL);
    ck_assert_int_gt(hostile_damage(b.data, b.size, 5000, parse, NULL), 2000);
    els_buffer_deinit(&b);
}
END_TEST

START_TEST(test_utf8)
{
    static const char *const bad[] = {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80", "\xff", "\xc3(", "\xf0\x9f\x98"};
    uint32_t c;

    ck_assert_uint_eq(els_utf8_decode("A", &c), 1);
    ck_assert_uint_eq(els_utf8_decode("\xc3\xa9", &c), 2);
    ck_assert_uint_eq(c, 0xe9);
    ck_assert_uint_eq(els_utf8_decode("\xf0\x9f\x98\x80", &c), 4);
    ck_assert_uint_eq(c, 0x1f600);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ck_assert_uint_eq(els_utf8_decode(bad[i], &c), 0);
        ck_assert_int_eq(els_utf8_is_line(bad[i], 100), 0);
    }
    ck_assert_int_eq(els_utf8_is_line("caf\xc3\xa9", 5), 1);
    ck_assert_int_eq(els_utf8_is_line("caf\xc3\xa9", 4), 0);
    ck_assert_int_eq(els_utf8_is_line("a\nb", 9), 0);
    ck_assert_int_eq(els_utf8_is_line("\x7f", 9), 0);
}
END_TEST

/* The example of FIPS 180-2, and the empty message. */
START_TEST(test_sha256)
{
    struct els_sha256 h;
    char hex[ELS_SHA256_HEX];

    els_sha256_init(&h);
    els_sha256_update(&h, "a", 1);
    els_sha256_update(&h, NULL, 0);
    els_sha256_update(&h, "bc", 2);
    els_sha256_hex(&h, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    els_sha256_init(&h);
    els_sha256_hex(&h, hex);
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

UNIT_MAIN("safetensors", test_round_trip, test_no_tensors_no_metadata, test_write_keeps_to_the_maximum,
          test_headers, test_header_length_lies, test_deep_and_wide_headers_are_refused_cheaply, test_hostile,
          test_utf8, test_sha256)
