/*
 * Discrete Fourier transforms of lines whose elements are vectors of complex numbers: LANES/2
 * transforms side by side. Included by a kernel after its vector operations.
 *
 *     F(f) = Σ_k z(k)·e^(−2πi·fk/n)
 *
 * Any length n: n is split into factors 8, 4, 2 and odd primes p, a stage each. A stage reads one
 * line and writes another, and leaves everything in order (Stockham's way), so nothing is
 * permuted. With n = s·p·m, the stages before it having taken care of s:
 *
 *         in                                   out
 *      m·s apart:  ●······●······●    →    s apart:  ●··●··●      p points
 *                  q·s + k                           p·q·s + k    q < m, k < s
 *
 * and point r is turned by e^(−2πi·qr/(p·m)). A prime p costs p² products per p points: an image of
 * 509 columns is slow, one of 512 is not.
 *
 * float64 throughout: an element is off by some 1e-16 of the line's root mean square, times √n.
 */
#ifndef ELS_KERNEL_FOURIER_H
#define ELS_KERNEL_FOURIER_H

#include <math.h>
#include <stddef.h>

#include "els/bank.h"

enum { MAX_STAGES = 9 }; /* ELS_MAX_SIDE = 2^9 */

/* Loops over a butterfly must be unrolled: only then do its numbers stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")

/* LANES/2 complex numbers. */
struct numbers {
    vd re, im;
};

/* Two lines, read and written in turn. */
struct lines {
    struct numbers a[ELS_MAX_SIDE], b[ELS_MAX_SIDE];
};

/* How lines of one length are transformed. */
struct axis {
    int n, stages, factor[MAX_STAGES];
    const double *root; /* [n][2]: e^(−2πi·k/n) */
};

/* out: [n][2] */
static void set_roots(int n, double *out)
{
    for (int k = 0; k < n; k++) {
        out[2 * k] = cos(2 * M_PI * k / n);
        out[2 * k + 1] = -sin(2 * M_PI * k / n);
    }
}

static struct axis axis_of(int n, const double *root)
{
    struct axis a = {.n = n, .root = root};
    int left = n;

    for (; left % 8 == 0 && left != 16; left /= 8)
        a.factor[a.stages++] = 8;
    for (; left % 4 == 0; left /= 4)
        a.factor[a.stages++] = 4;
    for (int p = 2; left > 1; p++)
        for (; left % p == 0; left /= p)
            a.factor[a.stages++] = p;
    return a;
}

/* ---- complex numbers ---- */

INLINE struct numbers c_add(struct numbers a, struct numbers b)
{
    return (struct numbers){a.re + b.re, a.im + b.im};
}

INLINE struct numbers c_sub(struct numbers a, struct numbers b)
{
    return (struct numbers){a.re - b.re, a.im - b.im};
}

/* −i·a */
INLINE struct numbers c_turn(struct numbers a)
{
    return (struct numbers){a.im, -a.re};
}

/* a·b + c */
INLINE struct numbers c_fma(struct numbers a, struct numbers b, struct numbers c)
{
    return (struct numbers){
        v_fma_double(a.re, b.re, v_fma_double(-a.im, b.im, c.re)),
        v_fma_double(a.re, b.im, v_fma_double(a.im, b.re, c.im)),
    };
}

INLINE struct numbers c_mul(struct numbers a, struct numbers b)
{
    return (struct numbers){
        v_fma_double(a.re, b.re, -(a.im * b.im)),
        v_fma_double(a.re, b.im, a.im * b.re),
    };
}

/* The same number in every lane. */
INLINE struct numbers c_set(const double *number)
{
    return (struct numbers){v_set_double(number[0]), v_set_double(number[1])};
}

/* ---- stages ---- */

/* One stage's geometry: n = s·p·m. */
struct stage {
    const struct axis *axis;
    int p, m, s;
    ptrdiff_t stride; /* between neighbours of `in` */
};

/* The root's q·r·s-th power; turned = 0: q = 0, nothing to do. */
INLINE struct numbers twist(const struct stage *t, int turned, int q, int r, struct numbers a)
{
    return turned ? c_mul(a, c_set(t->axis->root + 2 * (q * r * t->s))) : a;
}

INLINE void butterflies_2(const struct stage *t, int turned, int q, const struct numbers *in,
                          struct numbers *out)
{
    ptrdiff_t half = (ptrdiff_t)t->m * t->s * t->stride;

    for (int k = 0; k < t->s; k++) {
        const struct numbers *v = in + (q * t->s + k) * t->stride;
        struct numbers *to = out + 2 * q * t->s + k;

        to[0] = c_add(v[0], v[half]);
        to[t->s] = twist(t, turned, q, 1, c_sub(v[0], v[half]));
    }
}

/* Four numbers become their transform. */
INLINE void transform_4(struct numbers *v)
{
    struct numbers even = c_add(v[0], v[2]), even_apart = c_sub(v[0], v[2]);
    struct numbers odd = c_add(v[1], v[3]), odd_apart = c_turn(c_sub(v[1], v[3]));

    v[0] = c_add(even, odd);
    v[1] = c_add(even_apart, odd_apart);
    v[2] = c_sub(even, odd);
    v[3] = c_sub(even_apart, odd_apart);
}

INLINE void butterflies_4(const struct stage *t, int turned, int q, const struct numbers *in,
                          struct numbers *out)
{
    ptrdiff_t apart = (ptrdiff_t)t->m * t->s * t->stride;

    for (int k = 0; k < t->s; k++) {
        const struct numbers *from = in + (q * t->s + k) * t->stride;
        struct numbers *to = out + 4 * q * t->s + k, v[4];

        UNROLL
        for (int j = 0; j < 4; j++)
            v[j] = from[j * apart];
        transform_4(v);
        UNROLL
        for (int r = 0; r < 4; r++)
            to[r * t->s] = r == 0 ? v[0] : twist(t, turned, q, r, v[r]);
    }
}

/* Two transforms of four: of the sums, and of the differences turned by e^(−2πi·j/8). */
INLINE void butterflies_8(const struct stage *t, int turned, int q, const struct numbers *in,
                          struct numbers *out)
{
    ptrdiff_t apart = (ptrdiff_t)t->m * t->s * t->stride;
    const vd half = v_set_double(M_SQRT1_2);

    for (int k = 0; k < t->s; k++) {
        const struct numbers *from = in + (q * t->s + k) * t->stride;
        struct numbers *to = out + 8 * q * t->s + k, even[4], odd[4], once, thrice;

        UNROLL
        for (int j = 0; j < 4; j++) {
            even[j] = c_add(from[j * apart], from[(j + 4) * apart]);
            odd[j] = c_sub(from[j * apart], from[(j + 4) * apart]);
        }
        once = c_add(odd[1], c_turn(odd[1]));
        thrice = c_sub(c_turn(odd[3]), odd[3]);
        odd[1] = (struct numbers){once.re * half, once.im * half};
        odd[2] = c_turn(odd[2]);
        odd[3] = (struct numbers){thrice.re * half, thrice.im * half};
        transform_4(even);
        transform_4(odd);
        UNROLL
        for (int r = 0; r < 4; r++) {
            to[2 * r * t->s] = r == 0 ? even[0] : twist(t, turned, q, 2 * r, even[r]);
            to[(2 * r + 1) * t->s] = twist(t, turned, q, 2 * r + 1, odd[r]);
        }
    }
}

/* Any p, by the definition; the turn is part of each product's root. */
static void butterflies(const struct stage *t, int q, const struct numbers *in,
                        struct numbers *out)
{
    int n = t->axis->n;
    ptrdiff_t apart = (ptrdiff_t)t->m * t->s * t->stride;

    for (int k = 0; k < t->s; k++)
        for (int r = 0; r < t->p; r++) {
            const struct numbers *v = in + (q * t->s + k) * t->stride;
            int at = q * r * t->s, by = r * (n / t->p);
            struct numbers sum = c_mul(v[0], c_set(t->axis->root + 2 * at));

            for (int j = 1; j < t->p; j++) {
                at = at + by < n ? at + by : at + by - n;
                sum = c_fma(v[j * apart], c_set(t->axis->root + 2 * at), sum);
            }
            out[(t->p * q + r) * t->s + k] = sum;
        }
}

static void run_stage(const struct stage *t, const struct numbers *in, struct numbers *out)
{
    if (t->p == 8) {
        butterflies_8(t, 0, 0, in, out);
        for (int q = 1; q < t->m; q++)
            butterflies_8(t, 1, q, in, out);
    } else if (t->p == 4) {
        butterflies_4(t, 0, 0, in, out);
        for (int q = 1; q < t->m; q++)
            butterflies_4(t, 1, q, in, out);
    } else if (t->p == 2) {
        butterflies_2(t, 0, 0, in, out);
        for (int q = 1; q < t->m; q++)
            butterflies_2(t, 1, q, in, out);
    } else {
        for (int q = 0; q < t->m; q++)
            butterflies(t, q, in, out);
    }
}

/*
 * Transforms the n elements of `in`, `stride` apart: `in` may be either line. The result lies in
 * one of the two, or, if n = 1, in `in`.
 */
static struct numbers *transform(const struct axis *axis, struct numbers *in, ptrdiff_t stride,
                                 struct lines *lines)
{
    struct stage t = {.axis = axis, .m = axis->n, .s = 1, .stride = stride};

    for (int k = 0; k < axis->stages; k++) {
        struct numbers *out = in == lines->a ? lines->b : lines->a;

        t.p = axis->factor[k];
        t.m /= t.p;
        run_stage(&t, in, out);
        t.s *= t.p;
        t.stride = 1;
        in = out;
    }
    return in;
}

/* Transforms [h][w] elements, `stride` apart, in place: rows, then columns. */
static void transform_grid(const struct axis *rows, const struct axis *cols, struct numbers *grid,
                           ptrdiff_t stride, struct lines *lines)
{
    int h = rows->n, w = cols->n;

    for (int line = 0; line < h + w; line++) {
        int is_row = line < h, n = is_row ? w : h;
        ptrdiff_t step = is_row ? stride : w * stride;
        struct numbers *at = grid + (is_row ? line * w : line - h) * stride;
        const struct numbers *to = transform(is_row ? cols : rows, at, step, lines);

        for (int k = 0; k < n; k++)
            at[k * step] = to[k];
    }
}

#endif
