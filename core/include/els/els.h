/*
 * els: the whole library in one include.
 *
 *     #include <els/els.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         struct els_error err = {0};
 *         struct els_sample_spec spec;
 *         struct els_sampler *s = NULL;
 *         struct els_pool *pool = NULL;
 *
 *         els_sample_spec_init(&spec);
 *         if (els_bank_open(&spec.bank, "digits", &err) < 0 ||
 *             els_scales_parse(&spec.scales, "mnist-resnet-zeros", &err) < 0 ||
 *             els_sampler_new(&s, &spec, &err) < 0)
 *             return fprintf(stderr, "%s\n", err.message), 1;
 *         els_pool_new(&pool, 0);
 *         while (els_sampler_next(s) < els_sampler_num_steps(s))
 *             if (els_sampler_step(s, pool, NULL, &err) < 0)
 *                 return fprintf(stderr, "%s\n", err.message), 1;
 *         // els_sampler_x(s): [1,1,32,32] float32 in [−1,1]
 *         els_pool_free(pool);
 *         els_sampler_free(s);
 *         els_scales_deinit(&spec.scales);
 *         els_bank_unref(spec.bank);
 *     }
 */
#ifndef ELS_H
#define ELS_H

#include "els/api.h"
#include "els/bank.h"
#include "els/calibrate.h"
#include "els/colormap.h"
#include "els/compare.h"
#include "els/consistency.h"
#include "els/cpu.h"
#include "els/effort.h"
#include "els/engine.h"
#include "els/error.h"
#include "els/import.h"
#include "els/machine.h"
#include "els/mem.h"
#include "els/mosaic.h"
#include "els/mosaic_picture.h"
#include "els/noise.h"
#include "els/npy.h"
#include "els/picture.h"
#include "els/pool.h"
#include "els/progress.h"
#include "els/resize.h"
#include "els/safetensors.h"
#include "els/sampler.h"
#include "els/scale.h"
#include "els/scale_auto.h"
#include "els/schedule.h"
#include "els/shape.h"
#include "els/synth.h"
#include "els/tensor.h"
#include "els/version.h"

#endif
