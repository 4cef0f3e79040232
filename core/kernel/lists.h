/*
 * kernel_lists: the candidates of a group as lists, for kernels that take them in any order.
 *
 * Queries that share their candidates form a class, a class of rows × a class of columns
 * (els_classes_of). For bbels that is the interior, which takes every interior patch, and one class
 * for each edge position or corner. Each class has room for all its candidates of a whole group:
 * `vectors` vectors of ELS_MAX_LANES, an even number, the last filled up with copies that must not
 * count.
 *
 *     struct els_layout o;
 *     struct els_lists lists;
 *     struct els_class_at c;
 *
 *     els_layout_of(sweep, &o);                          // sizes; the same for all groups
 *     els_lists_at(&o, block, &lists);                   // into els_lists_bytes(&o) of the caller's
 *     els_lists_fill(sweep, &o, images, count, &lists);  // per group of images
 *     for (els_first(&o, &c); els_more(&o, &c); els_next(&o, &c))
 *         for (int n = c.first_vector; n < c.first_vector + lists.vectors[c.index]; n++)
 *             … lists.position[n·16 + lane] …
 *
 * Flat patches, all of whose values are equal, come once per class and value, with their number:
 * three out of five 3×3 patches of MNIST are black. The others are sorted, so that the 16 of a
 * vector are alike and, more often than not, all too far from a query to count.
 */
#ifndef ELS_KERNEL_LISTS_H
#define ELS_KERNEL_LISTS_H

#include "core/theory/geometry.h"
#include "core/kernel/kernel.h"

enum { ELS_AXIS_CLASSES = 33 };

struct els_layout {
    struct els_class rows[ELS_AXIS_CLASSES], cols[ELS_AXIS_CLASSES];
    int num_rows, num_cols;
    int plane_h, plane_w; /* of one channel of a bank image with its borders */
    int plane;            /* bytes of one image, all channels */
    int queries;          /* over all classes */
    int vectors;          /* of 16 candidates, over all classes, before folding */
};

/* Where a walk over the classes stands: at one of them, its queries and its vectors. */
struct els_class_at {
    int row, col, index;
    int first_query, queries;
    int first_vector, vectors;
};

/* A candidate while it is sorted. */
struct els_entry {
    uint32_t key;
    int32_t position, square, total;
};

/* The lists of one group. */
struct els_lists {
    int32_t *vectors;  /* [classes]: in use */
    int32_t *position; /* [vectors,16]: of the window's first value in `plane` */
    int32_t *square;   /* [vectors,16]: Σ(2u − 255)² over the window; −1 − that for a copy */
    int32_t *total;    /* [vectors,16]: Σ(u − 128) over the window */
    float *log_count;  /* [vectors,16]: ln of how many equal patches the candidate stands for */
    int8_t *plane;     /* [16,C,plane_h,plane_w]: u − 128, with borders: 0, or wrapped */
    /* Scratch: [16,plane_h + 1,plane_w + 1], and room to sort a class. */
    uint32_t *sum, *sum_square;
    struct els_entry *entry, *spare;
};

/* 0, or −1 when the geometry has more classes than there is room for. */
int els_layout_of(const struct els_sweep *s, struct els_layout *out);
/* Bytes of the lists, a multiple of 64; and where its parts begin in a block of that size. */
size_t els_lists_bytes(const struct els_layout *o);
void els_lists_at(const struct els_layout *o, void *block, struct els_lists *out);
void els_lists_fill(const struct els_sweep *s, const struct els_layout *o, const int64_t *images,
                    int count, struct els_lists *lists);

void els_first(const struct els_layout *o, struct els_class_at *c);
int els_more(const struct els_layout *o, const struct els_class_at *c);
void els_next(const struct els_layout *o, struct els_class_at *c);

#endif
