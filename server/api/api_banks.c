/*
 * The routes under /v1/banks: what there is to take patches from. Handlers; each
 * holds a reference to its bank for as long as it runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "els/picture.h"
#include "server/api/answer_room.h"
#include "server/banks/banks.h"
#include "server/base/clock.h"
#include "server/base/daemon.h"

enum {
    MAX_ZOOM = 16,
    SHEET_IMAGES = 100, /* unless the client says how many */
    MAX_SHEET_IMAGES = 1000,
    MAX_SHEET_PIXELS = 16 << 20, /* enlarged; takes about a second to compress */
    MAX_PNG = 256 << 20,
};

static json_t *describe_classes(const struct els_bank_info *info)
{
    json_t *classes = json_array();

    for (int i = 0; i < info->num_classes; i++)
        els_json_append(&classes,
                              json_pack("{s:i, s:s, s:I}", "index", i, "name", info->class_names[i],
                                        "count", (json_int_t)info->class_counts[i]));
    return classes;
}

json_t *srv_banks_describe(const struct srv_banks_entry *entry)
{
    const struct els_bank_info *info = els_bank_info(entry->bank);
    const char *name = entry->birth.name;
    char url[96], loaded_at[SRV_TIME_TEXT];

    snprintf(url, sizeof(url), "/v1/banks/%s", name);
    srv_time_text(entry->birth.loaded_at, loaded_at);
    return json_pack("{s:s, s:[i,i,i], s:I, s:s, s:o, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "name", name,
                     "shape", info->shape.c, info->shape.h, info->shape.w, "num_images",
                     (json_int_t)info->num_images, "dtype", els_dtype_name(info->dtype), "classes",
                     describe_classes(info), "sha256", info->sha256, "bytes",
                     (json_int_t)info->bytes, "scales", info->scales, "source", info->source,
                     "license", info->license, "url", url, "origin",
                     entry->birth.origin == SRV_BANK_CONFIGURED ? "configuration" : "loaded", "loaded_at", loaded_at);
}

static json_t *summarize(const struct els_bank *bank, const char *name)
{
    const struct els_bank_info *info = els_bank_info(bank);
    json_t *classes = json_array();
    char url[96];

    for (int i = 0; i < info->num_classes; i++)
        els_json_append(&classes, json_string(info->class_names[i]));
    snprintf(url, sizeof(url), "/v1/banks/%s", name);
    return json_pack("{s:s, s:[i,i,i], s:I, s:o, s:s, s:s}", "name", name, "shape", info->shape.c,
                     info->shape.h, info->shape.w, "num_images", (json_int_t)info->num_images,
                     "classes", classes, "scales", info->scales, "url", url);
}

size_t srv_banks_room(struct srv_banks *banks)
{
    struct els_bank *bank;
    size_t room = 0;
    char name[64];

    for (size_t i = 0; (bank = srv_banks_at(banks, i, name)); i++) {
        room += srv_room_bank(els_bank_info(bank));
        els_bank_unref(bank);
    }
    return room;
}

json_t *srv_banks_summary(struct srv_banks *banks)
{
    json_t *list = json_array();
    struct els_bank *bank;
    char name[64];

    for (size_t i = 0; (bank = srv_banks_at(banks, i, name)); i++) {
        els_json_append(&list, summarize(bank, name));
        els_bank_unref(bank);
    }
    return list;
}

/* The entry of the path's bank, with a reference; or false, and a 404 is in `res`. */
static bool find_entry(struct srv_request *req, struct srv_response *res, struct srv_banks_entry *entry)
{
    struct srv_banks *banks = srv_request_daemon(req)->banks;
    char names[512];

    if (srv_banks_look(banks, srv_request_arg(req, 0), entry))
        return true;
    srv_problem(res, 404, "bank_not_found", "There is no bank named \"%.80s\"; there are: %s.",
                srv_request_arg(req, 0), srv_banks_names(banks, names, sizeof(names)));
    return false;
}

/* Its bank, or NULL. */
static struct els_bank *find_bank(struct srv_request *req, struct srv_response *res)
{
    struct srv_banks_entry entry;

    return find_entry(req, res, &entry) ? entry.bank : NULL;
}

static void get_bank(struct srv_request *req, struct srv_response *res)
{
    struct srv_banks_entry entry;

    if (!find_entry(req, res, &entry))
        return;
    if (srv_response_charge(res, srv_room_bank(els_bank_info(entry.bank))))
        srv_response_json(res, 200, srv_banks_describe(&entry));
    els_bank_unref(entry.bank);
}

/* ---- pictures ---- */

/* Images of a bank as a grid. `indices` has `n` of them. */
static int draw(const struct els_bank *bank, const int64_t *indices, int64_t n, int zoom,
                struct els_buffer *png)
{
    struct els_shape shape = els_bank_info(bank)->shape;
    size_t values = els_shape_values(shape);
    _cleanup_(els_freep) float *x = els_alloc_array((size_t)n * values, sizeof(*x));
    struct els_picture picture = {0};
    int r = x ? 0 : ELS_ENOMEM;

    for (int64_t i = 0; r == 0 && i < n; i++)
        els_bank_image(bank, indices[i], x + (size_t)i * values);
    if (r == 0)
        r = els_picture_from_values(&picture, x, n, shape, 0);
    if (r == 0)
        r = els_picture_zoom(&picture, zoom);
    if (r == 0)
        r = els_picture_write_png(png, &picture, NULL, 0);
    els_picture_deinit(&picture);
    return r;
}

/* Draws and answers. `held`: what the caller has charged and still holds. */
static void answer_png(struct srv_response *res, const struct els_bank *bank,
                       const int64_t *indices, int64_t n, int zoom, size_t held)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    int r;

    if (!srv_response_charge(res, held + srv_room_picture(els_bank_info(bank)->shape, n, 0, zoom, NULL)))
        return;
    r = draw(bank, indices, n, zoom, &png);
    if (r < 0) {
        els_buffer_deinit(&png);
        srv_problem(res, 500, "no_picture", "The picture could not be made: %s.",
                    els_status_text(r));
        return;
    }
    srv_response_bytes(res, 200, "image/png", png.data, png.size);
}

/* The path's image number, or −1. */
static int64_t parse_index(const char *text, int64_t n)
{
    int64_t index = 0;

    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        index = index * 10 + (*text - '0');
        if (index >= n)
            return -1;
    }
    return index;
}

static void get_image(struct srv_request *req, struct srv_response *res)
{
    struct els_bank *bank = find_bank(req, res);
    const struct els_bank_info *info;
    int64_t index, zoom;
    char tag[128];

    if (!bank)
        return;
    info = els_bank_info(bank);
    index = parse_index(srv_request_arg(req, 1), info->num_images);
    if (index < 0) {
        srv_problem(res, 404, "image_not_found",
                    "The bank \"%s\" has the images 0 to %lld; \"%.40s\" is none of them.",
                    srv_request_arg(req, 0), (long long)info->num_images - 1,
                    srv_request_arg(req, 1));
    } else if (srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &zoom)) {
        snprintf(tag, sizeof(tag), "%.32s-%lld-%lld", info->sha256, (long long)index,
                 (long long)zoom);
        if (!srv_response_etag(req, res, tag))
            answer_png(res, bank, &index, 1, (int)zoom, 0);
    }
    els_bank_unref(bank);
}

/* What a contact sheet was asked for. */
struct sheet {
    struct els_selection_spec selection;
    int64_t offset, limit, zoom;
};

static bool read_sheet(struct srv_request *req, struct srv_response *res,
                       const struct els_bank *bank, struct sheet *sheet)
{
    const struct els_bank_info *info = els_bank_info(bank);
    const char *label = srv_request_query(req, "label");
    struct els_error err = {0};

    sheet->selection = (struct els_selection_spec){.label = -1};
    if (label && els_bank_find_class(bank, label, &sheet->selection.label, &err) < 0) {
        srv_problem_invalid(res, "?label", "%s", err.message);
        return false;
    }
    return srv_request_query_int(req, res, "offset", 0, info->num_images, 0, &sheet->offset) &&
           srv_request_query_int(req, res, "limit", 1, MAX_SHEET_IMAGES, SHEET_IMAGES,
                                 &sheet->limit) &&
           srv_request_query_int(req, res, "zoom", 1, MAX_ZOOM, 1, &sheet->zoom);
}

/* Would the sheet be too large a picture? Then a 422 is in `res`. */
static bool is_too_large(struct srv_response *res, const struct els_bank *bank, int64_t n,
                         int64_t zoom)
{
    struct els_shape shape = els_bank_info(bank)->shape;
    int64_t tiles = shape.c == 2 || shape.c == 4 ? shape.c : 1;
    int64_t each = (shape.h + 2) * (shape.w + 2) * tiles * zoom * zoom;

    if (n <= MAX_SHEET_PIXELS / each)
        return false;
    srv_problem_invalid(res, "?limit",
                        "%lld images of %d\u00d7%d at zoom %lld are more than the %d million "
                        "pixels of a sheet; limit=%lld would fit.",
                        (long long)n, shape.h, shape.w, (long long)zoom, MAX_SHEET_PIXELS >> 20,
                        (long long)(MAX_SHEET_PIXELS / each));
    return true;
}

static void answer_sheet(struct srv_request *req, struct srv_response *res,
                         const struct els_bank *bank, const struct sheet *sheet)
{
    _cleanup_(els_freep) int64_t *indices = NULL;
    size_t numbers = (size_t)els_bank_info(bank)->num_images * sizeof(*indices); /* of all that the label selects */
    struct els_error err = {0};
    int64_t n = 0;
    char tag[160];
    int status;

    if (!srv_response_charge(res, 2 * numbers))
        return;
    status = els_bank_select(bank, &sheet->selection, &indices, &n, &err);
    if (status == ELS_ENOMEM)
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    else if (status < 0)
        srv_problem_invalid(res, "?label", "%s", err.message);
    if (status < 0)
        return;
    if (sheet->offset >= n) {
        srv_problem_invalid(res, "?offset",
                            "The query argument offset is %lld; there are %lld images.",
                            (long long)sheet->offset, (long long)n);
        return;
    }
    n = n - sheet->offset < sheet->limit ? n - sheet->offset : sheet->limit;
    if (is_too_large(res, bank, n, sheet->zoom))
        return;
    snprintf(tag, sizeof(tag), "%.32s-%lld-%lld-%lld-%lld", els_bank_info(bank)->sha256,
             (long long)sheet->selection.label, (long long)sheet->offset, (long long)n,
             (long long)sheet->zoom);
    if (!srv_response_etag(req, res, tag))
        answer_png(res, bank, indices + sheet->offset, n, (int)sheet->zoom, numbers);
}

static void get_sheet(struct srv_request *req, struct srv_response *res)
{
    struct els_bank *bank = find_bank(req, res);
    struct sheet sheet;

    if (bank && read_sheet(req, res, bank, &sheet))
        answer_sheet(req, res, bank, &sheet);
    els_bank_unref(bank);
}

const struct srv_route srv_banks_routes[] = {
    {"GET", "/v1/banks/{name}", get_bank, 0},
    {"GET", "/v1/banks/{name}/images/{i}", get_image, SRV_ROUTE_ZOOMS},
    {"GET", "/v1/banks/{name}/sheet", get_sheet, SRV_ROUTE_COSTLY},
    {0},
};
