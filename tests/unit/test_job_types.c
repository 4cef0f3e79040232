/*
 * The table of kinds: what every row must hold, so that the job service can treat all of them alike.
 */
#include <string.h>

#include "server/base/job_type.h"
#include "server/params/params_fields.h"
#include "server/store/job_record.h"
#include "unit.h"

START_TEST(test_names)
{
    const struct srv_job_type *kind;
    size_t n = 0;

    for (; (kind = srv_job_type_at(n)); n++) {
        ck_assert_ptr_eq(srv_job_type_find(kind->name), kind);
        ck_assert_uint_lt(strlen(kind->name), sizeof(((struct srv_job_record *)NULL)->kind));
        ck_assert_int_eq(strncmp(kind->path, "/v1/", 4), 0);
    }
    ck_assert_uint_ge(n, 4);
    ck_assert_ptr_null(srv_job_type_find("samples"));
    ck_assert_ptr_null(srv_job_type_find(""));
}
END_TEST

/* Every field once, with a default that its reader has something to say about, and the bank before all others. */
START_TEST(test_fields)
{
    const struct srv_job_type *kind;

    for (size_t k = 0; (kind = srv_job_type_at(k)); k++) {
        ck_assert_str_eq(kind->fields[0]->name, "bank");
        for (const struct srv_field *const *f = kind->fields; *f; f++) {
            json_t *fallback = json_loads((*f)->fallback, JSON_DECODE_ANY, NULL);

            ck_assert_ptr_eq(srv_field_find(kind, (*f)->name), *f);
            ck_assert_msg(fallback != NULL, "%s: %s", kind->name, (*f)->name);
            ck_assert((*f)->doc && *(*f)->doc && (*f)->type && (*f)->read);
            json_decref(fallback);
        }
    }
}
END_TEST

START_TEST(test_outputs)
{
    struct srv_extent extent = {.shape = {3, 5, 7}, .num_images = 4, .num_steps = 6, .depth = 2};
    const struct srv_job_type *kind;

    for (size_t k = 0; (kind = srv_job_type_at(k)); k++) {
        int n = 0;

        for (const struct srv_output *o = kind->outputs; o->word; o++, n++) {
            struct els_tensor t = o->describe(&extent);

            ck_assert_uint_eq(els_dtype_size(t.dtype), 4);
            ck_assert_int_eq(t.dims[o->image_axis], 4);
            ck_assert_uint_eq(srv_output_values(o, &extent) * 4, els_tensor_count(&t));
            if (*o->word)
                ck_assert_ptr_eq(&kind->outputs[srv_output_find(kind, o->word)], o);
        }
        ck_assert_int_le(n, SRV_MAX_OUTPUTS);
        ck_assert(!kind->has_images || strcmp(kind->outputs[0].tensor, SRV_IMAGES_TENSOR) == 0);
        ck_assert_int_eq(srv_output_find(kind, "nothing"), -1);
    }
}
END_TEST

START_TEST(test_what_a_record_keeps)
{
    struct srv_job_record record = {.kind = "sample", .shape = {1, 2, 3}, .num_images = 4, .num_steps = 5, .depth = 6,
                                .outputs = 4};
    struct srv_extent extent = srv_job_record_extent(&record);
    int x0 = srv_output_find(&srv_job_type_sample, "x0"), xt = srv_output_find(&srv_job_type_sample, "xt");

    ck_assert(srv_job_record_keeps(&record, &srv_job_type_sample, 0)); /* the images, always */
    ck_assert(!srv_job_record_keeps(&record, &srv_job_type_sample, x0));
    ck_assert(srv_job_record_keeps(&record, &srv_job_type_sample, xt));
    ck_assert_int_eq(extent.shape.w, 3);
    ck_assert_int_eq(extent.num_images, 4);
    ck_assert_int_eq(extent.num_steps, 5);
    ck_assert_int_eq(extent.depth, 6);
}
END_TEST

UNIT_MAIN("job_types", test_names, test_fields, test_outputs, test_what_a_record_keeps)
