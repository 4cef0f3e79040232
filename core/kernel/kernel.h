/*
 * kernel: the inner loops of the engine, behind one table. Which of them a process prefers is chosen
 * once; what that one does not accept goes to its `otherwise`, pair by pair.
 *
 * The engine (pass.c) cuts the bank into groups of `lanes` images, and the image into bands of
 * rows. A kernel lays a group out in vectors of `lanes` candidates and walks all pairs of query
 * and source positions ("pair" = one query pixel against one candidate patch):
 *
 *     k->prepare_query(sweep, x, query);                 // once per noisy image
 *     k->prepare_group(sweep, images, count, group);     // once per group of images
 *     k->begin(sweep, query, group, work, lanes);        // once per query and group
 *     for (int i = 0; i < k->steps(sweep); i++)          // some milliseconds each, at most
 *         k->sweep(sweep, i, query, group, work, lanes);
 *     k->finish(sweep, query, work, lanes);              // once in many groups: the sums are read
 *
 * With a = √ᾱ and σ² = β, the logit of a candidate is (‖x_Ω‖², constant per query, is left out)
 *
 *     l = scale·⟨x_Ω, y_c⟩ − bias_c,      scale = a/β,      bias_c = a²/2β·‖y_c‖²
 *
 * and ⟨x_Ω, y_c⟩ comes from sliding sums, whose cost per pair does not depend on P, or for small
 * windows from the definition (kernel/x86/avx512lists.c). For is it is one dot product per image
 * (kernel/images.h), for es a circular correlation, by Fourier transform (kernel/translates.h);
 * the C kernel takes all of them from the definition.
 *
 * Streaming softmax. Each query pixel keeps a reference logit m and per lane the float32 sums s =
 * Σ e^(l−m), v = Σ e^(l−m)·y and, when asked for, u = Σ e^(l−m)(l−m). m follows the maximum
 * lazily: it is raised only when a logit passes it by ELS_HEADROOM nats. Logits more than `cut`
 * below m are skipped: with cut = ln(2M/ε), M the number of candidates, what is skipped changes
 * no x̂0 by more than ε. The engine flushes the lanes to the float64 posterior before float32 can
 * lose accuracy.
 */
#ifndef ELS_KERNEL_H
#define ELS_KERNEL_H

#include "els/bank.h"
#include "core/theory/geometry.h"
#include "els/machine.h"

enum {
    ELS_MAX_LANES = 16,
    ELS_HEADROOM = 8, /* nats */
};

#define ELS_NO_FLOOR INT64_MIN /* before the first candidate */

/*
 * One machine, one P, one noise level, one band of query rows: the same for all groups and
 * queries.
 */
struct els_sweep {
    const struct els_bank *bank;
    const int64_t *images; /* [num_images], of the bank */
    int64_t num_images;
    struct els_shape shape;
    enum els_machine machine;
    enum els_candidates candidates;
    int r;                  /* P div 2 */
    int rh, rw;             /* window radius along rows and columns, never beyond the image */
    int wraps;              /* windows wrap around; else they are clipped */
    int band_from, band_to; /* query rows; for is and es: displacements of rows */
    struct els_runs rows;   /* of the band; unused by is and es */
    struct els_runs cols;
    double scale; /* a/β */
    double bias;  /* a²/2β */
    double cut;   /* nats below the reference at which a candidate is skipped */
    int slots;    /* float sums per pixel: s, v_0 … v_{C−1}, and u when the entropy is wanted */
    int entropy;
};

/*
 * The sums of one noisy image over one band, still spread over lanes: [pixels of the band, slots,
 * lanes]. `m` has one reference per pixel (for is and es one for all), −INFINITY before the first
 * candidate.
 */
struct els_lanes {
    double *m;
    float *sum;
    /* For integer kernels, in their units: [pixels], the logit below which nothing counts. */
    int64_t *floor;
    /* [pixels]: ln Σ e^l after a flush, for begin() to raise the floor; else −INFINITY. */
    double *log_total;
};

struct els_kernel {
    const char *name;
    int lanes;
    /* Any lane may hold candidates of any image; else lane l holds those of the group's image l. */
    int mixes_images;
    /*
     * The most float32 additions of one group to one sum, for the engine to flush in time. 0: as
     * many as an image has candidates.
     */
    int max_adds;
    /* Of as many lanes: takes what this one does not accept. NULL: the C kernel does. */
    const struct els_kernel *otherwise;
    /* Does this CPU have what it takes? */
    int (*usable)(void);
    /* Can it take this sweep (dtype, sizes) of this noisy image? */
    int (*accepts)(const struct els_sweep *sweep, const float *x);
    size_t (*query_bytes)(const struct els_sweep *sweep);
    size_t (*group_bytes)(const struct els_sweep *sweep);
    size_t (*work_bytes)(const struct els_sweep *sweep);
    /* x: [C,H,W]. */
    void (*prepare_query)(const struct els_sweep *sweep, const float *x, void *query);
    /* `count` ≤ lanes bank indices; the lanes beyond it must never contribute. */
    void (*prepare_group)(const struct els_sweep *sweep, const int64_t *images, int count,
                          void *group);
    /* Before one query's sweeps over one group; may be NULL. */
    void (*begin)(const struct els_sweep *sweep, const void *query, const void *group, void *work,
                  struct els_lanes *lanes);
    /*
     * The work of one query and one group in steps, to be walked in order: between them the engine
     * asks whether to stop.
     */
    int (*steps)(const struct els_sweep *sweep);
    void (*sweep)(const struct els_sweep *sweep, int step, const void *query, const void *group,
                  void *work, struct els_lanes *lanes);
    /* Before the engine reads a query's sums: brings them into their places; may be NULL. */
    void (*finish)(const struct els_sweep *sweep, const void *query, void *work,
                   struct els_lanes *lanes);
    /*
     * What the CPU could do: `rounds` times ELS_PEAK_DOTS products x·y, each added to lanes in
     * registers, y [ELS_PEAK_DOTS, lanes] in the first cache. The result means nothing. May be
     * NULL.
     */
    int32_t (*peak)(int64_t rounds, const int32_t *y);
};

enum { ELS_PEAK_DOTS = 8 };

extern const struct els_kernel els_kernel_c;
extern const struct els_kernel els_kernel_avx2;       /* x86-64 builds only, as all below */
extern const struct els_kernel els_kernel_avx512;     /* F, BW, DQ, VL */
extern const struct els_kernel els_kernel_avx512vnni; /* and VNNI */
extern const struct els_kernel els_kernel_avx512lists; /* likewise */
extern const struct els_kernel els_kernel_neon;        /* 64-bit ARM builds only */
/* Not to be chosen: what those leave over, and whole images, where all chains end. */
extern const struct els_kernel els_kernel_avx2_bits, els_kernel_avx512_bits;
extern const struct els_kernel els_kernel_avx512vnni_bits;
extern const struct els_kernel els_kernel_avx2_is, els_kernel_avx2_es;
extern const struct els_kernel els_kernel_avx512_is, els_kernel_avx512_es;
extern const struct els_kernel els_kernel_neon_bits, els_kernel_neon_is;

/*
 * The fastest kernel that this CPU can run, or the one that els_engine_use_kernel named, or ELS_CPU
 * (where it names one that cannot run, the fastest).
 */
const struct els_kernel *els_kernel_chosen(void);
/* Every kernel of this build, the slowest first; NULL past the end. */
const struct els_kernel *els_kernel_at(int i);

#endif
