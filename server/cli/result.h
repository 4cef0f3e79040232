/*
 * result: what a sample leaves behind, as .png, .npy or .safetensors.
 *
 *     struct cli_result result = CLI_RESULT_INIT;
 *     if (cli_result_open(&result, "out.safetensors", &spec, sampler, zoom, &err) < 0)
 *         …
 *     // after every step:
 *     cli_result_step(&result, sampler, s, &err);
 *     cli_result_commit(&result, sampler, &err);
 *     cli_result_deinit(&result);
 */
#ifndef CLI_RESULT_H
#define CLI_RESULT_H

#include "els/mosaic.h"
#include "els/safetensors.h"
#include "server/cli/output.h"
#include "server/cli/spec.h"

enum cli_form {
    CLI_PNG,
    CLI_NPY,
    CLI_SAFETENSORS,
};

enum { CLI_MAX_TENSORS = 8, CLI_MOSAIC_TOP = 4 };

struct cli_result {
    enum cli_form form;
    int zoom;
    struct cli_output file;
    char *params; /* JSON */
    const struct cli_spec *spec;
    struct els_shape shape;
    int64_t num_images;
    int num_steps;
    struct els_named_tensor tensor[CLI_MAX_TENSORS]; /* of a .safetensors file; no data */
    uint64_t offset[CLI_MAX_TENSORS];                /* where each one's data begin */
    size_t num_tensors;
};

#define CLI_RESULT_INIT ((struct cli_result){.file = CLI_OUTPUT_INIT})

/* The form that the path's ending asks for; a sentence lists the three. */
int cli_form_of(const char *path, enum cli_form *out, struct els_error *err);

/* Opens the file and writes what is known before the first step, so that what cannot work fails
 * before the work. `spec` is borrowed until deinit; its `outputs` are complete. */
int cli_result_open(struct cli_result *r, const char *path, enum cli_form form,
                    const struct cli_spec *spec, const struct els_sampler *sampler, int zoom,
                    struct els_error *err);
/* Keeps what was asked for of step s, which ran last. */
int cli_result_step(struct cli_result *r, const struct els_sampler *sampler, int s,
                    struct els_error *err);
/* Keeps the mosaic (CLI_MOSAIC_TOP candidates) of image `image` at step s, if it was asked for. */
int cli_result_mosaic(struct cli_result *r, const struct els_mosaic *mosaic, int64_t image, int s,
                      struct els_error *err);
/* Writes the images; the file appears. */
int cli_result_commit(struct cli_result *r, const struct els_sampler *sampler,
                      struct els_error *err);
/* Without a commit nothing is left. */
void cli_result_deinit(struct cli_result *r);

#endif
