/*
 * The list of built-in banks, and the two-tone bank of Theorem 4.1.
 *
 * Called from the thread that loads banks; holds no state. A first run needs no download: these banks are
 * drawn when they are asked for, in well under a second.
 */
#include "els/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bank/synth/synth_internal.h"
#include "els/mem.h"

static const char SOURCE[] = "drawn by els";
static const char LICENSE[] = "CC0-1.0";

static const char *const TONES[] = {"black", "white"};
static const char *const DIGITS[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
static const char *const SHAPES[] = {"circle", "square", "triangle", "star", "ring", "cross"};

static const struct builtin {
    const char *name, *summary;
    struct els_shape shape;
    int num_images, num_classes;
    const char *const *class_names;
    const char *scales;
    void (*draw)(uint8_t *out, int i);
} BUILTINS[] = {
    {"digits", "3,000 handwritten-looking digits, 10 classes, grey 32x32", {1, 32, 32}, 3000, 10, DIGITS,
     "mnist-resnet-zeros", els_synth_draw_digit},
    {"shapes", "1,500 coloured shapes on coloured grounds, 6 classes, RGB 32x32", {3, 32, 32}, 1500, 6,
     SHAPES, "cifar10-resnet-zeros", els_synth_draw_shape},
    {"two-tone", "one black and one white image: the smallest example of Theorem 4.1, grey 32x32",
     {1, 32, 32}, 2, 2, TONES, "3", NULL},
};
enum { NUM_BUILTINS = sizeof(BUILTINS) / sizeof(*BUILTINS) };

int els_synth_count(void)
{
    return NUM_BUILTINS;
}

const char *els_synth_name(int i)
{
    return i >= 0 && i < NUM_BUILTINS ? BUILTINS[i].name : NULL;
}

const char *els_synth_summary(int i)
{
    return i >= 0 && i < NUM_BUILTINS ? BUILTINS[i].summary : NULL;
}

/* Black first, then white. */
static void draw_tone(uint8_t *out, size_t values, int i)
{
    memset(out, i ? 255 : 0, values);
}

static int build(struct els_bank **out, const struct builtin *b, struct els_shape shape,
                 struct els_error *err)
{
    size_t values = els_shape_values(shape);
    _cleanup_(els_freep) uint8_t *images = els_alloc_array((size_t)b->num_images, values);
    _cleanup_(els_freep) int64_t *labels = els_alloc_array((size_t)b->num_images, sizeof(*labels));

    if (!images || !labels)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int i = 0; i < b->num_images; i++) {
        labels[i] = i % b->num_classes;
        if (b->draw)
            b->draw(images + (size_t)i * values, i);
        else
            draw_tone(images + (size_t)i * values, values, i);
    }
    return els_bank_new(out,
                        &(struct els_bank_parts){
                            .name = b->name,
                            .shape = shape,
                            .num_images = b->num_images,
                            .dtype = ELS_U8,
                            .images = images,
                            .labels = labels,
                            .num_classes = b->num_classes,
                            .class_names = b->class_names,
                            .scales = b->scales,
                            .source = SOURCE,
                            .license = LICENSE,
                        },
                        err);
}

static const struct builtin *find(const char *name)
{
    for (int i = 0; i < NUM_BUILTINS; i++)
        if (strcmp(name, BUILTINS[i].name) == 0)
            return &BUILTINS[i];
    return NULL;
}

int els_synth_bank(struct els_bank **out, const char *name, struct els_error *err)
{
    const struct builtin *b = find(name);

    if (!b)
        return els_fail(err, ELS_ENOENT, "bank",
                        "there is no built-in bank '%.60s'; there are %s, %s and %s", name,
                        BUILTINS[0].name, BUILTINS[1].name, BUILTINS[2].name);
    return build(out, b, b->shape, err);
}

int els_synth_two_tone(struct els_bank **out, int h, int w, struct els_error *err)
{
    if (h < 1 || h > ELS_MAX_SIDE || w < 1 || w > ELS_MAX_SIDE)
        return els_fail(err, ELS_EINVAL, "shape", "the size is %dx%d; each side must be from 1 to %d", h,
                        w, ELS_MAX_SIDE);
    return build(out, find("two-tone"), (struct els_shape){1, h, w}, err);
}
