/*
 * The three forms of a result. Called from main's thread, between the sampler's steps.
 *
 * A .safetensors file is laid out before the first step and then filled in place, step by step:
 * memory does not grow with the number of steps, and a full disk is noticed by the step that fills
 * it.
 */
#include "server/cli/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "els/npy.h"
#include "els/picture.h"

enum {
    MAX_HEADER = 64 << 20,
    PLACE_VALUES = 3, /* image, row, column */
};

#define MAX_PNG_BYTES ((size_t)1 << 30)

int cli_form_of(const char *path, enum cli_form *out, struct els_error *err)
{
    static const struct {
        const char *ending;
        enum cli_form form;
    } forms[] = {{".png", CLI_PNG}, {".npy", CLI_NPY}, {".safetensors", CLI_SAFETENSORS}};
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof(forms) / sizeof(*forms); i++) {
        if (strcmp(dot, forms[i].ending) == 0) {
            *out = forms[i].form;
            return 0;
        }
    }
    return els_fail(err, ELS_EINVAL, "output",
                    "the output \"%.200s\" must end in .png, .npy or .safetensors", path);
}

/* ---- png ---- */

static int make_picture(struct els_buffer *png, const struct cli_result *r, const float *images,
                        struct els_error *err)
{
    const char *text[] = {"els", r->params};
    struct els_picture p = {0};
    int status;

    status = els_picture_from_values(&p, images, r->num_images, r->shape, 0);
    if (status == 0)
        status = els_picture_zoom(&p, r->zoom);
    if (status == 0)
        status = els_picture_write_png(png, &p, text, 1);
    els_picture_deinit(&p);
    if (status == ELS_ELIMIT)
        return els_fail(
            err, status, "output",
            "%lld images at zoom %d make a picture of more than %d pixels; ask for fewer, or "
            "for .npy or .safetensors",
            (long long)r->num_images, r->zoom, ELS_PICTURE_MAX_PIXELS);
    if (status < 0)
        return els_fail(err, status, "output", "cannot make the picture: %s",
                        els_status_text(status));
    return 0;
}

static int write_png(struct cli_result *r, const float *images, struct els_error *err)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG_BYTES);
    int status = make_picture(&png, r, images, err);

    if (status == 0)
        status = cli_output_write(&r->file, png.data, png.size, err);
    els_buffer_deinit(&png);
    return status;
}

/* ---- npy ---- */

static int write_npy(struct cli_result *r, const float *images, struct els_error *err)
{
    const int64_t dims[] = {r->num_images, r->shape.c, r->shape.h, r->shape.w};
    struct els_buffer header = ELS_BUFFER_INIT(MAX_HEADER);
    int status = els_npy_write_header(&header, ELS_F32, 4, dims);

    if (status < 0)
        els_fail(err, status, "output", "cannot make the header: %s", els_status_text(status));
    if (status == 0)
        status = cli_output_write(&r->file, header.data, header.size, err);
    if (status == 0)
        status = cli_output_write(
            &r->file, images, (size_t)r->num_images * els_shape_values(r->shape) * sizeof(float),
            err);
    els_buffer_deinit(&header);
    return status;
}

/* ---- safetensors ---- */

static void add_tensor(struct cli_result *r, const char *name, enum els_dtype dtype, int ndim,
                       const int64_t *dims)
{
    struct els_named_tensor *t = &r->tensor[r->num_tensors];

    t->name = name;
    t->tensor = els_tensor_view(dtype, ndim, dims, NULL);
    r->num_tensors++;
}

static void list_tensors(struct cli_result *r)
{
    const int64_t n = r->num_images, s = r->num_steps;
    const struct els_shape z = r->shape;
    unsigned outputs = r->spec->outputs;

    if (outputs & CLI_OUTPUT_IMAGE)
        add_tensor(r, "images", ELS_F32, 4, (const int64_t[]){n, z.c, z.h, z.w});
    if (outputs & CLI_OUTPUT_X0)
        add_tensor(r, "x0", ELS_F32, 5, (const int64_t[]){n, s, z.c, z.h, z.w});
    if (outputs & CLI_OUTPUT_XT)
        add_tensor(r, "xt", ELS_F32, 5, (const int64_t[]){n, s + 1, z.c, z.h, z.w});
    if (outputs & CLI_OUTPUT_ENTROPY)
        add_tensor(r, "entropy", ELS_F32, 4, (const int64_t[]){n, s, z.h, z.w});
    if (outputs & CLI_OUTPUT_MOSAIC) {
        add_tensor(r, "mosaic", ELS_I32, 6,
                   (const int64_t[]){n, s, z.h, z.w, CLI_MOSAIC_TOP, PLACE_VALUES});
        add_tensor(r, "mosaic_weights", ELS_F32, 5,
                   (const int64_t[]){n, s, z.h, z.w, CLI_MOSAIC_TOP});
        add_tensor(r, "mosaic_regions", ELS_I32, 4, (const int64_t[]){n, s, z.h, z.w});
    }
    if (r->spec->spec.x_T)
        add_tensor(r, "x_T", ELS_F32, 4, (const int64_t[]){n, z.c, z.h, z.w});
}

/* Values per image. */
static size_t image_values(const struct cli_result *r, size_t i)
{
    return els_tensor_count(&r->tensor[i].tensor) / (size_t)r->num_images;
}

static size_t find_tensor(const struct cli_result *r, const char *name)
{
    size_t i = 0;

    while (i < r->num_tensors && strcmp(r->tensor[i].name, name) != 0)
        i++;
    return i;
}

/* Row `row` of `values` values (of four bytes) of one image, in tensor `name`; nothing when it is not kept. */
static int write_row(struct cli_result *r, const char *name, const void *from, size_t values,
                     int64_t image, int row, struct els_error *err)
{
    size_t i = find_tensor(r, name);
    uint64_t at;

    if (i == r->num_tensors)
        return 0;
    at = (uint64_t)image * image_values(r, i) + (uint64_t)row * values;
    return cli_output_write_at(&r->file, r->offset[i] + at * sizeof(float), from,
                               values * sizeof(float), err);
}

/* The same for every image. */
static int write_rows(struct cli_result *r, const char *name, const float *from, size_t values,
                      int row, struct els_error *err)
{
    int status = 0;

    for (int64_t k = 0; k < r->num_images && status == 0; k++)
        status = write_row(r, name, from + (size_t)k * values, values, k, row, err);
    return status;
}

static int write_header(struct cli_result *r, struct els_error *err)
{
    const char *keys[] = {"params", "engine"};
    struct els_buffer header = ELS_BUFFER_INIT(MAX_HEADER);
    char engine[128];
    int status;

    snprintf(engine, sizeof(engine), "{\"version\":\"%s\",\"kernel\":\"%s\"}", ELS_VERSION,
             els_engine_kernel());
    status = els_safetensors_write_header(&header, r->tensor, r->num_tensors, keys,
                                          (const char *const[]){r->params, engine}, 2);
    if (status < 0)
        els_fail(err, status, "output", "cannot make the header: %s", els_status_text(status));
    else
        status = cli_output_write(&r->file, header.data, header.size, err);
    els_buffer_deinit(&header);
    return status;
}

static int begin_safetensors(struct cli_result *r, const struct els_sampler *sampler,
                             struct els_error *err)
{
    size_t values = els_shape_values(r->shape);
    uint64_t end;
    int status;

    list_tensors(r);
    status = write_header(r, err);
    end = r->file.end;
    for (size_t i = 0; i < r->num_tensors; i++) {
        r->offset[i] = end;
        end += els_tensor_bytes(&r->tensor[i].tensor);
    }
    if (status == 0)
        status = write_rows(r, "xt", els_sampler_x(sampler), values, 0, err);
    if (status == 0 && r->spec->spec.x_T)
        status = write_rows(r, "x_T", r->spec->spec.x_T, values, 0, err);
    return status;
}

/* ---- the face ---- */

int cli_result_open(struct cli_result *r, const char *path, enum cli_form form,
                    const struct cli_spec *spec, const struct els_sampler *sampler, int zoom,
                    struct els_error *err)
{
    struct els_buffer trial = ELS_BUFFER_INIT(MAX_PNG_BYTES);
    int status;

    r->form = form;
    r->zoom = zoom;
    r->spec = spec;
    r->shape = els_bank_info(spec->spec.bank)->shape;
    r->num_images = spec->spec.num_images;
    r->num_steps = els_sampler_num_steps(sampler);
    r->params = cli_params_json(spec);
    if (!r->params)
        return els_fail(err, ELS_ENOMEM, "", "out of memory");
    status = cli_output_open(&r->file, path, err);
    if (status == 0 && form == CLI_SAFETENSORS)
        status = begin_safetensors(r, sampler, err);
    /* A picture of the noise, made and thrown away: it is as large as the last one will be. */
    if (status == 0 && form == CLI_PNG)
        status = make_picture(&trial, r, els_sampler_x(sampler), err);
    els_buffer_deinit(&trial);
    return status;
}

int cli_result_step(struct cli_result *r, const struct els_sampler *sampler, int s,
                    struct els_error *err)
{
    size_t values = els_shape_values(r->shape);
    int status = 0;

    if (r->form != CLI_SAFETENSORS)
        return 0;
    status = write_rows(r, "x0", els_sampler_x0(sampler), values, s, err);
    if (status == 0)
        status = write_rows(r, "xt", els_sampler_x(sampler), values, s + 1, err);
    if (status == 0)
        status = write_rows(r, "entropy", els_sampler_entropy(sampler), values / (size_t)r->shape.c,
                            s, err);
    return status;
}

int cli_result_mosaic(struct cli_result *r, const struct els_mosaic *mosaic, int64_t image, int s,
                      struct els_error *err)
{
    size_t pixels = (size_t)mosaic->height * (size_t)mosaic->width, n = pixels * CLI_MOSAIC_TOP;
    _cleanup_(els_freep) int32_t *places = els_alloc_array(n, PLACE_VALUES * sizeof(*places));
    _cleanup_(els_freep) float *weights = els_alloc_array(n, sizeof(*weights));
    int status;

    _Static_assert(sizeof(*mosaic->region) == sizeof(int32_t), "regions are written as they are");
    if (!places || !weights)
        return els_fail(err, ELS_ENOMEM, "", "out of memory");
    for (size_t i = 0; i < n; i++) {
        const struct els_candidate *c = &mosaic->candidate[i];

        places[i * PLACE_VALUES] = (int32_t)c->image;
        places[i * PLACE_VALUES + 1] = c->row;
        places[i * PLACE_VALUES + 2] = c->column;
        weights[i] = (float)c->weight;
    }
    status = write_row(r, "mosaic", places, n * PLACE_VALUES, image, s, err);
    if (status == 0)
        status = write_row(r, "mosaic_weights", weights, n, image, s, err);
    if (status == 0)
        status = write_row(r, "mosaic_regions", mosaic->region, pixels, image, s, err);
    return status;
}

int cli_result_commit(struct cli_result *r, const struct els_sampler *sampler,
                      struct els_error *err)
{
    const float *images = els_sampler_x(sampler);
    int status;

    if (r->form == CLI_PNG)
        status = write_png(r, images, err);
    else if (r->form == CLI_NPY)
        status = write_npy(r, images, err);
    else
        status = write_rows(r, "images", images, els_shape_values(r->shape), 0, err);
    return status < 0 ? status : cli_output_commit(&r->file, err);
}

void cli_result_deinit(struct cli_result *r)
{
    cli_output_deinit(&r->file);
    free(r->params);
    *r = CLI_RESULT_INIT;
}
