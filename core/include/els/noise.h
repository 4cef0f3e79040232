/*
 * noise: standard normal numbers, the same as PyTorch's and NumPy's.
 *
 *     struct els_noise g;
 *     els_noise_init(&g, ELS_NOISE_TORCH, 7);
 *     els_noise_randn(&g, x, 3 * 32 * 32);     // torch.manual_seed(7); torch.randn(3,32,32)
 *     els_noise_randn(&g, z, 3 * 32 * 32);     // the next torch.randn(3,32,32)
 *
 * Torch: MT19937 seeded with seed mod 2³² and Box–Muller in float32 blocks of
 * 16 (within 4 ulp of PyTorch's CPU path). Numpy: default_rng(seed).standard_normal(n,
 * dtype=float32), bit for bit (SeedSequence → PCG64 → float ziggurat).
 */
#ifndef ELS_NOISE_H
#define ELS_NOISE_H

#include <stddef.h>
#include <stdint.h>

#include "els/api.h"

ELS_BEGIN_DECLS

enum els_noise_kind {
    ELS_NOISE_TORCH,
    ELS_NOISE_NUMPY,
};

/* One generator; plain data, copyable, no cleanup. */
struct els_noise {
    enum els_noise_kind kind;
    union {
        struct {
            uint32_t word[624];
            int next;
            int has_cached; /* the second of a Box–Muller pair drawn one by one (fewer than 16 at
                               once) */
            double cached;
        } torch;
        struct {
            uint64_t state_hi, state_lo, inc_hi, inc_lo;
            int has_half; /* PCG64 gives 64 bits; a float draw takes 32 */
            uint32_t half;
        } numpy;
    };
};

/* Any 64-bit seed. */
ELS_API void els_noise_init(struct els_noise *g, enum els_noise_kind kind, uint64_t seed);
/* Writes n numbers: one call is one randn() of n elements. */
ELS_API void els_noise_randn(struct els_noise *g, float *out, size_t n);
/* "torch" or "numpy" → kind; 0, or ELS_ENOENT. */
ELS_API int els_noise_parse(const char *name, enum els_noise_kind *out);
ELS_API const char *els_noise_name(enum els_noise_kind kind);

ELS_END_DECLS

#endif
