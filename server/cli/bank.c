/*
 * els bank info, sheet and list: what a person looks at banks with. Runs on main's thread.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "els/picture.h"
#include "els/synth.h"
#include "server/cli/commands.h"
#include "server/cli/output.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

#define MAX_PNG_BYTES ((size_t)1 << 30)

static const struct cli_option *const no_tables[] = {NULL};

/* ---- info ---- */

struct info_options {
    int json;
};

static const struct cli_option info_table[] = {
    {"json", 0, NULL, CLI_FLAG, offsetof(struct info_options, json), .help = "as JSON"},
    {0},
};

static const struct cli_command info_command = {
    .name = "bank info",
    .operands = "FILE|NAME",
    .num_operands = 1,
    .summary = "what a bank holds",
    .tables = (const struct cli_option *const[]){info_table, NULL},
    .examples = (const char *const[]){"a built-in bank", "els bank info digits", NULL},
};

static void print_text(const struct els_bank_info *info)
{
    printf("name     %s\nimages   %lld of %d×%d×%d, %s, %llu bytes\n", info->name,
           (long long)info->num_images, info->shape.c, info->shape.h, info->shape.w,
           els_dtype_name(info->dtype), (unsigned long long)info->bytes);
    for (int k = 0; k < info->num_classes; k++)
        printf("class    %d %s: %lld images\n", k, info->class_names[k],
               (long long)info->class_counts[k]);
    if (*info->scales)
        printf("scales   %s\n", info->scales);
    if (*info->source)
        printf("source   %s\n", info->source);
    if (*info->license)
        printf("license  %s\n", info->license);
    printf("sha256   %s\n", info->sha256);
}

static int print_json(const struct els_bank_info *info)
{
    json_t *classes = json_array(), *root;
    int status = classes ? 0 : -1;

    for (int k = 0; k < info->num_classes && status == 0; k++)
        status = json_array_append_new(classes, json_pack("{s:i, s:s, s:I}", "index", k, "name",
                                                          info->class_names[k], "count",
                                                          (json_int_t)info->class_counts[k]));
    root = json_pack("{s:s, s:[iii], s:I, s:s, s:o, s:s, s:s, s:s, s:s, s:I}", "name", info->name,
                     "shape", info->shape.c, info->shape.h, info->shape.w, "count",
                     (json_int_t)info->num_images, "dtype", els_dtype_name(info->dtype), "classes",
                     classes, "scales", info->scales, "source", info->source, "license",
                     info->license, "sha256", info->sha256, "bytes", (json_int_t)info->bytes);
    if (status == 0 && root)
        status = json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF ? -1 : 0;
    else
        status = -1;
    json_decref(root);
    return status;
}

int cli_bank_info(int argc, char **argv)
{
    struct info_options o = {0};
    struct els_error err = {0};
    struct els_bank *bank = NULL;
    int status, first = cli_parse(&info_command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    status = els_bank_open(&bank, argv[first], &err);
    if (status < 0)
        return cli_report(status, &err);
    if (!o.json)
        print_text(els_bank_info(bank));
    else if (print_json(els_bank_info(bank)) < 0)
        status = cli_fail("cannot print %s as JSON", argv[first]);
    els_bank_unref(bank);
    return status;
}

/* ---- sheet ---- */

struct sheet_options {
    const char *output, *label;
    int64_t limit, offset, zoom;
};

#define AT(member) offsetof(struct sheet_options, member)

static const struct cli_option sheet_table[] = {
    {"label", 'l', "CLASS", CLI_TEXT, AT(label), .help = "one class only: its index, or its name"},
    {"limit", 0, "N", CLI_INTEGER, AT(limit), 1, 100000, .help = "how many images"},
    {"offset", 0, "N", CLI_INTEGER, AT(offset), 0, ELS_MAX_IMAGES,
     .help = "pass over the first N (of the label)"},
    {"zoom", 'z', "K", CLI_INTEGER, AT(zoom), 1, 16, .help = "enlarge K times"},
    {"output", 'o', "SHEET.png", CLI_TEXT, AT(output), .required = 1,
     .help = "the picture to write"},
    {0},
};

#undef AT

static const struct cli_command sheet_command = {
    .name = "bank sheet",
    .operands = "FILE|NAME",
    .num_operands = 1,
    .summary = "a contact sheet of a bank's images",
    .tables = (const struct cli_option *const[]){sheet_table, NULL},
    .examples = (const char *const[]){"the first sevens",
                                      "els bank sheet digits --label 7 -o sevens.png", NULL},
};

/* The images of the label from `offset` on, as values; *count is how many there are, at most
 * `limit`. */
static int gather(const struct els_bank *bank, const struct sheet_options *o, float **values,
                  int64_t *count, struct els_error *err)
{
    size_t n = els_shape_values(els_bank_info(bank)->shape);
    _cleanup_(els_freep) int64_t *images = NULL;
    struct els_selection_spec spec = {.label = -1};
    int64_t total = 0;
    int status = 0;

    if (o->label)
        status = els_bank_find_class(bank, o->label, &spec.label, err);
    if (status == 0)
        status = els_bank_select(bank, &spec, &images, &total, err);
    if (status < 0)
        return status;
    if (o->offset >= total)
        return els_fail(err, ELS_EINVAL, "offset", "--offset is %lld, but there are %lld images",
                        (long long)o->offset, (long long)total);
    *count = total - o->offset < o->limit ? total - o->offset : o->limit;
    *values = els_alloc_array((size_t)*count, n * sizeof(float));
    if (!*values)
        return els_fail(err, ELS_ENOMEM, "limit", "out of memory for %lld images",
                        (long long)*count);
    for (int64_t i = 0; i < *count; i++)
        els_bank_image(bank, images[o->offset + i], *values + (size_t)i * n);
    return 0;
}

static int make_sheet(struct els_buffer *png, const struct els_bank *bank,
                      const struct sheet_options *o, struct els_error *err)
{
    _cleanup_(els_freep) float *values = NULL;
    struct els_picture p = {0};
    int64_t count = 0;
    int status = gather(bank, o, &values, &count, err);

    if (status < 0)
        return status;
    status = els_picture_from_values(&p, values, count, els_bank_info(bank)->shape, 0);
    if (status == 0)
        status = els_picture_zoom(&p, (int)o->zoom);
    if (status == 0)
        status = els_picture_write_png(png, &p, NULL, 0);
    els_picture_deinit(&p);
    if (status < 0)
        els_fail(err, status, "limit", "cannot make a picture of %lld images at zoom %lld: %s",
                 (long long)count, (long long)o->zoom, els_status_text(status));
    return status;
}

static int sheet(const char *name, const struct sheet_options *o, struct els_error *err)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG_BYTES);
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_bank *bank = NULL;
    int status = els_bank_open(&bank, name, err);

    if (status == 0)
        status = make_sheet(&png, bank, o, err);
    cli_signals_hold();
    if (status == 0)
        status = cli_output_open(&file, o->output, err);
    if (status == 0)
        status = cli_output_write(&file, png.data, png.size, err);
    if (status == 0)
        status = cli_output_commit(&file, err);
    cli_output_deinit(&file);
    els_buffer_deinit(&png);
    els_bank_unref(bank);
    return status;
}

int cli_bank_sheet(int argc, char **argv)
{
    struct sheet_options o = {.limit = 100, .zoom = 1};
    struct els_error err = {0};
    int status, first = cli_parse(&sheet_command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    status = sheet(argv[first], &o, &err);
    return status < 0 ? cli_report(status, &err) : CLI_OK;
}

/* ---- list ---- */

static const struct cli_command list_command = {
    .name = "bank list",
    .operands = "",
    .summary = "the built-in banks",
    .tables = no_tables,
};

int cli_bank_list(int argc, char **argv)
{
    int status, target;

    if (cli_parse(&list_command, argc, argv, &target, &status) < 0)
        return status;
    for (int i = 0; i < els_synth_count(); i++)
        printf("%-10s %s\n", els_synth_name(i), els_synth_summary(i));
    return CLI_OK;
}
