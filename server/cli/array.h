/*
 * array: floats from a .npy file, with a shape that its user asks for.
 *
 *     struct cli_array xt = {0};
 *     if (cli_array_read(&xt, "xt.npy", "xt", 2, shape, &err) < 0)     // [S,T,C,H,W]
 *         …
 *     … xt.dims[0], xt.dims[1], xt.values …
 *     cli_array_deinit(&xt);
 */
#ifndef CLI_ARRAY_H
#define CLI_ARRAY_H

#include "els/bank.h"
#include "els/tensor.h"

struct cli_array {
    int ndim;
    int64_t dims[ELS_TENSOR_MAX_DIMS];
    float *values;
};

/* Images of a bank's shape behind `leading` further dimensions, each at least 1; `field` names the array in errors. */
int cli_array_read(struct cli_array *out, const char *path, const char *field, int leading,
                   struct els_shape shape, struct els_error *err);
/* A list of numbers of any kind, [n], as float64 in a new array (free()). `convert` is one of tensor.h's. */
int cli_list_read(double **out, size_t *count, const char *path, const char *field,
                  void (*convert)(const struct els_tensor *, double *), struct els_error *err);
void cli_array_deinit(struct cli_array *a);

#endif
