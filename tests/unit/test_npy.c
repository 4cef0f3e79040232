/*
 * Tensors and NumPy's files: values, headers byte for byte as NumPy writes them, and hostile headers.
 */
#include <glob.h>
#include <math.h>
#include <string.h>

#include "els/npy.h"
#include "hostile.h"
#include "unit.h"

static int parse(const void *bytes, size_t size, void *user)
{
    struct els_tensor t;
    struct els_error err = {0};
    int r = els_npy_parse(&t, bytes, size, &err);

    if (r == 0) {
        /* The view lies inside the bytes: read its last one. */
        size_t n = els_tensor_bytes(&t);
        volatile uint8_t last = n ? ((const uint8_t *)t.data)[n - 1] : 0;
        (void)last;
    } else {
        ck_assert_int_eq(err.code, r);
        ck_assert_uint_gt(strlen(err.message), 10);
    }
    return r;
}

/* A version 1.0 file with that dict and `data` zero bytes; returns the reader's code. */
static int parse_dict(const char *dict, size_t data, struct els_error *err)
{
    struct els_buffer b = ELS_BUFFER_INIT(1 << 20);
    struct els_tensor t;
    void *zeros;
    int r;

    ck_assert_int_eq(els_buffer_append(&b, "\x93NUMPY\x01\x00", 8), 0);
    ck_assert_int_eq(els_buffer_append(&b, (uint8_t[]){(uint8_t)strlen(dict), 0}, 2), 0);
    ck_assert_int_eq(els_buffer_append(&b, dict, strlen(dict)), 0);
    ck_assert_int_eq(els_buffer_extend(&b, data, &zeros), 0);
    memset(zeros, 0, data);
    r = els_npy_parse(&t, b.data, b.size, err);
    els_buffer_deinit(&b);
    return r;
}

START_TEST(test_dims_are_checked)
{
    size_t bytes;

    ck_assert_int_eq(els_tensor_check_dims(ELS_F32, 3, (const int64_t[]){2, 3, 4}, &bytes), 0);
    ck_assert_uint_eq(bytes, 96);
    ck_assert_int_eq(els_tensor_check_dims(ELS_F32, 0, NULL, &bytes), 0);
    ck_assert_uint_eq(bytes, 4);
    ck_assert_int_eq(els_tensor_check_dims(ELS_F64, 2, (const int64_t[]){0, 7}, &bytes), 0);
    ck_assert_uint_eq(bytes, 0);
    ck_assert_int_eq(els_tensor_check_dims(ELS_U8, 1, (const int64_t[]){-1}, NULL), ELS_ELIMIT);
    ck_assert_int_eq(els_tensor_check_dims(ELS_U8, 2, (const int64_t[]){INT64_MAX, 3}, NULL), ELS_ELIMIT);
    ck_assert_int_eq(els_tensor_check_dims(ELS_F64, 1, (const int64_t[]){INT64_MAX / 4}, NULL), ELS_ELIMIT);
    ck_assert_int_eq(
        els_tensor_check_dims(ELS_U8, 3, (const int64_t[]){INT64_MAX, INT64_MAX, 0}, NULL), ELS_ELIMIT);
    ck_assert_int_eq(els_tensor_check_dims(ELS_U8, 9, (const int64_t[9]){0}, NULL), ELS_ELIMIT);
}
END_TEST

START_TEST(test_converts_from_any_type_and_address)
{
    const uint8_t u8[] = {0, 7, 255};
    const int32_t i32[] = {INT32_MIN, -1, 5};
    const int64_t i64[] = {-3, 0, INT64_C(1) << 40};
    const float f32[] = {0.5f, -1, INFINITY};
    const double f64[] = {0.1, -2.5, 1e300};
    const struct {
        enum els_dtype dtype;
        const void *data;
        double want[3];
    } cases[] = {
        {ELS_U8, u8, {0, 7, 255}},         {ELS_I32, i32, {INT32_MIN, -1, 5}},
        {ELS_I64, i64, {-3, 0, 0x1p40}},   {ELS_F32, f32, {0.5, -1, (double)INFINITY}},
        {ELS_F64, f64, {0.1, -2.5, 1e300}},
    };

    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        struct els_tensor t = els_tensor_view(cases[k].dtype, 1, (const int64_t[]){3}, NULL);
        uint8_t odd[25];
        double d[3];
        float f[3];

        memcpy(odd + 1, cases[k].data, els_tensor_bytes(&t));
        t.data = odd + 1;
        els_tensor_to_f64(&t, d);
        els_tensor_to_f32(&t, f);
        for (int i = 0; i < 3; i++) {
            ck_assert(d[i] == cases[k].want[i]);
            ck_assert(f[i] == (float)cases[k].want[i]);
        }
    }
}
END_TEST

START_TEST(test_shape_text)
{
    struct els_tensor t = els_tensor_view(ELS_U8, 4, (const int64_t[]){24, 1, 32, 32}, NULL);
    char text[64], tiny[5];

    ck_assert_str_eq(els_tensor_shape_text(&t, text, sizeof(text)), "[24, 1, 32, 32]");
    ck_assert_str_eq(els_tensor_shape_text(&t, tiny, sizeof(tiny)), "[24,");
    t.ndim = 0;
    ck_assert_str_eq(els_tensor_shape_text(&t, text, sizeof(text)), "[]");
}
END_TEST

/* Every golden file was written by NumPy: reading and writing it again gives its bytes. */
START_TEST(test_round_trip_is_numpys)
{
    glob_t found;

    ck_assert_int_eq(glob(unit_path("golden/*.npy"), 0, NULL, &found), 0);
    ck_assert_uint_gt(found.gl_pathc, 50);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        size_t size;
        uint8_t *bytes = hostile_load(found.gl_pathv[i], &size);
        struct els_buffer again = ELS_BUFFER_INIT(64 << 20);
        struct els_tensor t;

        ck_assert_int_eq(els_npy_parse(&t, bytes, size, NULL), 0);
        ck_assert_int_eq(els_npy_write(&again, &t), 0);
        ck_assert_uint_eq(again.size, size);
        ck_assert_mem_eq(again.data, bytes, size);
        els_buffer_deinit(&again);
        free(bytes);
    }
    globfree(&found);
}
END_TEST

START_TEST(test_shapes_of_few_dims)
{
    const double v[] = {1.5, -2, 3};

    for (int ndim = 0; ndim <= 1; ndim++) {
        struct els_tensor t = els_tensor_view(ELS_F64, ndim, (const int64_t[]){3}, v), back;
        struct els_buffer b = ELS_BUFFER_INIT(1000);

        ck_assert_int_eq(els_npy_write(&b, &t), 0);
        ck_assert_uint_eq(b.size, 128 + els_tensor_bytes(&t));
        ck_assert_int_eq(els_npy_parse(&back, b.data, b.size, NULL), 0);
        ck_assert_int_eq(back.ndim, ndim);
        ck_assert_int_eq(back.dtype, ELS_F64);
        ck_assert_mem_eq(back.data, v, els_tensor_bytes(&t));
        els_buffer_deinit(&b);
    }
}
END_TEST

START_TEST(test_write_keeps_to_the_maximum)
{
    struct els_tensor t = els_tensor_view(ELS_U8, 1, (const int64_t[]){4}, "abcd");
    struct els_buffer b = ELS_BUFFER_INIT(130);

    ck_assert_int_eq(els_npy_write(&b, &t), ELS_ELIMIT);
    ck_assert_uint_eq(b.size, 0);
    els_buffer_deinit(&b);
}
END_TEST

START_TEST(test_headers)
{
    static const struct {
        const char *dict;
        size_t data;
        int code;
        const char *says;
    } cases[] = {
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n", 6, 0, ""},
        {"{\"shape\":(2,3),\"descr\":\"|u1\",\"fortran_order\":False}", 6, 0, ""},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", 8, ELS_EFORMAT, "Fortran"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, ELS_EFORMAT, "'>f4'"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 8, ELS_EFORMAT, "'|O'"},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", 4, ELS_EFORMAT, "|u1 <i4 <i8 <f4 <f8"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, ELS_EFORMAT, "structured"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", 4, ELS_EFORMAT, "[3] of U8 needs 3"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }", 4, ELS_EFORMAT, "4 bytes of data"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }", 0, ELS_EFORMAT, "whole numbers"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,), }", 0, ELS_EFORMAT,
         "whole numbers"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }",
         0, ELS_ELIMIT, "does not fit"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 8, 0), }", 0, ELS_ELIMIT,
         "does not fit"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 1, ELS_ELIMIT,
         "8 dimensions"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2 3), }", 6, ELS_EFORMAT, "tuple"},
        {"{'descr': '|u1', 'fortran_order': False, }", 0, ELS_EFORMAT, "lacks"},
        {"{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (), }", 1, ELS_EFORMAT,
         "second key 'descr'"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (), 'x': 1}", 1, ELS_EFORMAT, "unknown key 'x'"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (), } import os", 1, ELS_EFORMAT, "goes on"},
        {"{'descr': '|u1' 'fortran_order': False, 'shape': (), }", 1, ELS_EFORMAT, "plain keys"},
        {"{'descr': '|u1', 'fortran_order': 0, 'shape': (), }", 1, ELS_EFORMAT, "fortran_order"},
        {"", 0, ELS_EFORMAT, "dict"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct els_error err = {0};

        ck_assert_msg(parse_dict(cases[i].dict, cases[i].data, &err) == cases[i].code, "%s: %s",
                      cases[i].dict, err.message);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s does not say %s", err.message,
                      cases[i].says);
    }
}
END_TEST

START_TEST(test_versions)
{
    struct els_tensor t = els_tensor_view(ELS_U8, 1, (const int64_t[]){4}, "abcd"), back;
    struct els_buffer v1 = ELS_BUFFER_INIT(1000), v2 = ELS_BUFFER_INIT(1000);
    struct els_error err = {0};

    ck_assert_int_eq(els_npy_write(&v1, &t), 0);
    ck_assert_int_eq(els_buffer_append(&v2, v1.data, 10), 0);
    ck_assert_int_eq(els_buffer_append(&v2, "\0\0", 2), 0);
    ck_assert_int_eq(els_buffer_append(&v2, v1.data + 10, v1.size - 10), 0);
    for (uint8_t major = 2; major <= 3; major++) {
        v2.data[6] = major;
        ck_assert_int_eq(els_npy_parse(&back, v2.data, v2.size, &err), 0);
        ck_assert_mem_eq(back.data, "abcd", 4);
    }
    v2.data[6] = 4;
    ck_assert_int_eq(els_npy_parse(&back, v2.data, v2.size, &err), ELS_EFORMAT);
    ck_assert_str_eq(err.message, "the .npy is version 4.0; 1.0 to 3.0 are read");
    v2.data[6] = 2;
    v2.data[11] = 0x80; /* a header of 2 GiB */
    ck_assert_int_eq(els_npy_parse(&back, v2.data, v2.size, &err), ELS_ELIMIT);
    els_buffer_deinit(&v1);
    els_buffer_deinit(&v2);
}
END_TEST

START_TEST(test_hostile)
{
    struct els_tensor t = els_tensor_view(ELS_F32, 2, (const int64_t[]){2, 3}, (const float[6]){1, 2});
    struct els_buffer b = ELS_BUFFER_INIT(1000);

    ck_assert_int_eq(els_npy_write(&b, &t), 0);
    hostile_cut(b.data, b.size, parse, NULL);
    ck_assert_int_gt(hostile_damage(b.data, b.size, 5000, parse, NULL), 1000);
    els_buffer_deinit(&b);
}
END_TEST

UNIT_MAIN("npy", test_dims_are_checked, test_converts_from_any_type_and_address, test_shape_text,
          test_round_trip_is_numpys, test_shapes_of_few_dims, test_write_keeps_to_the_maximum, test_headers,
          test_versions, test_hostile)
