/*
 * The table of kinds, and what can be said of every one of them. Constant data; any thread.
 */
#include "server/base/job_type.h"

#include <string.h>

#include "server/store/job_record.h"

static const struct srv_job_type *const kinds[] = {&srv_job_type_sample, &srv_job_type_denoise, &srv_job_type_calibration,
                                              &srv_job_type_comparison};

const struct srv_job_type *srv_job_type_at(size_t i)
{
    return i < sizeof(kinds) / sizeof(*kinds) ? kinds[i] : NULL;
}

const struct srv_job_type *srv_job_type_find(const char *name)
{
    const struct srv_job_type *kind;

    for (size_t i = 0; (kind = srv_job_type_at(i)); i++)
        if (strcmp(kind->name, name) == 0)
            return kind;
    return NULL;
}

size_t srv_output_values(const struct srv_output *o, const struct srv_extent *e)
{
    struct srv_extent one = *e;
    struct els_tensor t;

    one.num_images = 1;
    t = o->describe(&one);
    return els_tensor_count(&t);
}

int srv_output_find(const struct srv_job_type *kind, const char *word)
{
    for (int i = 0; kind->outputs[i].word; i++)
        if (strcmp(kind->outputs[i].word, word) == 0)
            return i;
    return -1;
}

struct srv_extent srv_job_record_extent(const struct srv_job_record *record)
{
    return (struct srv_extent){record->shape, record->num_images, record->num_steps, record->depth};
}

bool srv_job_record_keeps(const struct srv_job_record *record, const struct srv_job_type *kind, int i)
{
    return kind->outputs[i].always || (record->outputs & 1u << i);
}
