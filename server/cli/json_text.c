/*
 * JSON documents of the command line. Called from main's thread. jansson's constructors return NULL when out of memory;
 * so does every function here, and json_pack passes a NULL on.
 */
#include "server/cli/json_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *append(json_t *list, json_t *value)
{
    /* Takes the value, whatever happens. */
    if (json_array_append_new(list, value) == 0)
        return list;
    json_decref(list);
    return NULL;
}

json_t *cli_json_integers(const int64_t *values, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n; i++)
        list = append(list, json_integer(values[i]));
    return list;
}

json_t *cli_json_reals(const double *values, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n; i++)
        list = append(list, isfinite(values[i]) ? json_real(values[i]) : json_null());
    return list;
}

json_t *cli_json_scales(const struct els_scales *scales)
{
    json_t *p = json_array();

    for (int i = 0; p && i < scales->n; i++)
        p = append(p, json_integer(scales->p[i]));
    return json_pack("{s:o, s:o}", "t", cli_json_reals(scales->t, (size_t)scales->n), "p", p);
}

int cli_json_write(struct cli_output *file, json_t *root, struct els_error *err)
{
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    int status;

    json_decref(root);
    if (!text)
        return els_fail(err, ELS_ENOMEM, "output", "out of memory");
    status = cli_output_write(file, text, strlen(text), err);
    if (status == 0)
        status = cli_output_write(file, "\n", 1, err);
    if (status == 0)
        status = cli_output_commit(file, err);
    free(text);
    return status;
}
