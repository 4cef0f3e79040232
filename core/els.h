/*
 * els: the whole library in one include.
 *
 *     #include "els.h"
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

#include "bank.h"
#include "calibrate.h"
#include "colormap.h"
#include "compare.h"
#include "consistency.h"
#include "effort.h"
#include "engine.h"
#include "error.h"
#include "import.h"
#include "machine.h"
#include "mem.h"
#include "mosaic.h"
#include "mosaic_picture.h"
#include "noise.h"
#include "npy.h"
#include "picture.h"
#include "pool.h"
#include "resize.h"
#include "safetensors.h"
#include "sampler.h"
#include "scale.h"
#include "scale_auto.h"
#include "schedule.h"
#include "synth.h"
#include "tensor.h"

#endif
