/*
 * els bank import: other people's data sets into a bank's file. Runs on main's thread; the library
 * reads and checks the source, and writes the file whole or not at all.
 */
#include <stdio.h>

#include "els/import.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/cli/progress.h"

struct import_options {
    const char *output, *labels, *name;
    struct cli_sides resize, crop;
    int64_t limit;
    int grey, quiet;
};

#define AT(member) offsetof(struct import_options, member)

static const struct cli_option import_table[] = {
    {"labels", 'l', "FILE", CLI_TEXT, AT(labels),
     .help = "IDX or .npy labels; an IDX label file beside the images is found by itself"},
    {"crop", 0, "HxW", CLI_SIDES, AT(crop), 1, ELS_MAX_SIDE,
     .help = "cut the middle out, before resizing"},
    {"resize", 0, "HxW", CLI_SIDES, AT(resize), 1, ELS_MAX_SIDE,
     .help = "Pillow's 8-bit bilinear resize"},
    {"limit", 0, "N", CLI_INTEGER, AT(limit), 1, ELS_MAX_IMAGES, .help = "the first N images only"},
    {"grey", 0, NULL, CLI_FLAG, AT(grey), .help = "make pictures of a folder one channel"},
    {"name", 0, "NAME", CLI_TEXT, AT(name),
     .help = "the bank's name; by default the source's file name"},
    {"quiet", 'q', NULL, CLI_FLAG, AT(quiet), .help = "no progress and no summary on stderr"},
    {"output", 'o', "BANK.safetensors", CLI_TEXT, AT(output), .required = 1,
     .help = "the bank to write"},
    {0},
};

#undef AT

static const char *const examples[] = {
    "MNIST at the size that the published scales are for",
    "els bank import train-images-idx3-ubyte.gz --resize 32x32 --name mnist -o mnist.safetensors",
    "a folder of pictures, one sub-folder per class",
    "els bank import photos/ --crop 128x128 --resize 32x32 -o photos.safetensors",
    NULL,
};

static const struct cli_command import_command = {
    .name = "bank import",
    .operands = "SOURCE",
    .num_operands = 1,
    .summary = "make a bank from a data set",
    .details = "SOURCE is an IDX file (gzipped or not), a CIFAR-10 or CIFAR-100 binary batch or a "
               "folder of them, a folder of PNGs and JPEGs (sub-folders are classes), or a .npy "
               "[N,H,W], [N,C,H,W] or [N,H,W,C].",
    .tables = (const struct cli_option *const[]){import_table, NULL},
    .examples = examples,
};

static int import(const char *source, const struct import_options *o, struct els_error *err)
{
    struct els_bank *bank = NULL;
    struct cli_progress progress;
    struct els_import_spec spec = {
        .source = source,
        .labels = o->labels,
        .name = o->name,
        .resize_h = (int)o->resize.h,
        .resize_w = (int)o->resize.w,
        .crop_h = (int)o->crop.h,
        .crop_w = (int)o->crop.w,
        .limit = o->limit,
        .grey = o->grey,
        .progress = cli_progress_poll,
        .user = &progress,
    };
    int status;

    cli_signals_hold();
    cli_progress_begin(&progress, NULL, 1, o->quiet);
    status = els_import(&bank, &spec, err);
    cli_progress_end(&progress);
    if (status == 0)
        status = els_bank_save(bank, o->output, err);
    if (status == 0 && !o->quiet) {
        const struct els_bank_info *info = els_bank_info(bank);

        fprintf(stderr, "%s: %lld images of %d×%d×%d, %d classes\n", o->output,
                (long long)info->num_images, info->shape.c, info->shape.h, info->shape.w,
                info->num_classes);
    }
    els_bank_unref(bank);
    return status;
}

int cli_bank_import(int argc, char **argv)
{
    struct import_options o = {0};
    struct els_error err = {0};
    int status, first = cli_parse(&import_command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    status = import(argv[first], &o, &err);
    return status < 0 ? cli_report(status, &err) : CLI_OK;
}
