/*
 * The routes under /v1/banks: what there is to take patches from. Handlers of the back room; each
 * holds a reference to its bank for as long as it runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "banks.h"
#include "daemon.h"

static json_t *describe_classes(const struct els_bank_info *info)
{
    json_t *classes = json_array();

    for (int i = 0; i < info->num_classes; i++)
        json_array_append_new(classes,
                              json_pack("{s:i, s:s, s:I}", "index", i, "name", info->class_names[i],
                                        "count", (json_int_t)info->class_counts[i]));
    return classes;
}

static json_t *describe(const struct els_bank *bank, const char *name)
{
    const struct els_bank_info *info = els_bank_info(bank);
    char url[96];

    snprintf(url, sizeof(url), "/v1/banks/%s", name);
    return json_pack("{s:s, s:[i,i,i], s:I, s:s, s:o, s:s, s:I, s:s, s:s, s:s, s:s}", "name", name,
                     "shape", info->shape.c, info->shape.h, info->shape.w, "num_images",
                     (json_int_t)info->num_images, "dtype", els_dtype_name(info->dtype), "classes",
                     describe_classes(info), "sha256", info->sha256, "bytes",
                     (json_int_t)info->bytes, "scales", info->scales, "source", info->source,
                     "license", info->license, "url", url);
}

static void list_banks(struct srv_request *req, struct srv_response *res)
{
    struct srv_banks *banks = srv_request_daemon(req)->banks;
    json_t *list = json_array();
    struct els_bank *bank;
    char name[64];

    for (size_t i = 0; (bank = srv_banks_at(banks, i, name)); i++) {
        json_array_append_new(list, describe(bank, name));
        els_bank_unref(bank);
    }
    srv_response_json(res, 200, json_pack("{s:o}", "banks", list));
}

/* The bank of the path, with a reference; or NULL, and a 404 is in `res`. */
static struct els_bank *find_bank(struct srv_request *req, struct srv_response *res)
{
    struct srv_banks *banks = srv_request_daemon(req)->banks;
    struct els_bank *bank = srv_banks_get(banks, srv_request_arg(req, 0));
    char names[512];

    if (!bank)
        srv_problem(res, 404, "bank_not_found", "There is no bank named \"%.80s\"; there are: %s.",
                    srv_request_arg(req, 0), srv_banks_names(banks, names, sizeof(names)));
    return bank;
}

static void get_bank(struct srv_request *req, struct srv_response *res)
{
    struct els_bank *bank = find_bank(req, res);

    if (bank)
        srv_response_json(res, 200, describe(bank, srv_request_arg(req, 0)));
    els_bank_unref(bank);
}

const struct srv_route srv_banks_routes[] = {
    {"GET", "/v1/banks", list_banks, 0},
    {"GET", "/v1/banks/{name}", get_bank, 0},
    {0},
};
