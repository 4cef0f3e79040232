/*
 * cpu: which kernel, the engine's inner loops for one kind of CPU, computes.
 *
 *     if (els_engine_use_kernel("avx2", &err) < 0)        // or by the environment: ELS_CPU=avx2
 *         fprintf(stderr, "%s\n", err.message);
 *     printf("%s\n", els_engine_kernel());
 */
#ifndef ELS_CPU_H
#define ELS_CPU_H

#include "els/api.h"
#include "els/error.h"

ELS_BEGIN_DECLS

/* The kernel chosen once for this process: "c", "avx2", "avx512" … */
ELS_API const char *els_engine_kernel(void);
/*
 * Forces a kernel by name, before the first evaluation; ELS_ENOENT lists what this CPU and build
 * have.
 */
ELS_API int els_engine_use_kernel(const char *name, struct els_error *err);

ELS_END_DECLS

#endif
