/*
 * Which images of a bank count: classes by name, and selections. Called from any thread that holds a
 * reference; holds no state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/bank.h"
#include "els/mem.h"

/* "cat, dog, …" as far as `size` allows. */
static void list_classes(const struct els_bank_info *info, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < info->num_classes; i++) {
        const char *name = info->class_names[i];

        if (used + strlen(name) + sizeof(", …") > size) {
            snprintf(out + used, size - used, ", …");
            return;
        }
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", name);
    }
}

int els_bank_find_class(const struct els_bank *bank, const char *name_or_index, int64_t *out,
                        struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(bank);
    size_t digits = strspn(name_or_index, "0123456789");
    char names[256];
    long index;

    for (int i = 0; i < info->num_classes; i++) {
        if (strcmp(info->class_names[i], name_or_index) == 0) {
            *out = i;
            return 0;
        }
    }
    /* Nine digits fit a long, and are more than ELS_MAX_CLASSES needs. */
    if (digits > 0 && digits <= 9 && !name_or_index[digits]) {
        index = strtol(name_or_index, NULL, 10);
        if (index < info->num_classes) {
            *out = index;
            return 0;
        }
    }
    if (info->num_classes == 0)
        return els_fail(err, ELS_ENOENT, "label", "bank %s has no labels", info->name);
    list_classes(info, names, sizeof(names));
    return els_fail(err, ELS_ENOENT, "label", "bank %s has no class '%.60s'; it has 0 to %d: %s",
                    info->name, name_or_index, info->num_classes - 1, names);
}

static int check_spec(const struct els_bank_info *info, const struct els_selection_spec *spec,
                      struct els_error *err)
{
    int64_t last_class = info->num_classes - 1;

    if (spec->label < -1 || spec->label > last_class) {
        if (info->num_classes == 0)
            return els_fail(err, ELS_EINVAL, "label", "label is %lld, but bank %s has no labels",
                            (long long)spec->label, info->name);
        return els_fail(err, ELS_EINVAL, "label", "label is %lld; it must be from 0 to %lld",
                        (long long)spec->label, (long long)last_class);
    }
    if (spec->max_samples < 0)
        return els_fail(err, ELS_EINVAL, "max_samples", "max_samples is %lld; it must be 1 or more",
                        (long long)spec->max_samples);
    for (size_t i = 0; i < spec->num_exclude_images; i++)
        if (spec->exclude_images[i] < 0 || spec->exclude_images[i] >= info->num_images)
            return els_fail(err, ELS_EINVAL, "exclude",
                            "exclude.images holds %lld; it must be from 0 to %lld",
                            (long long)spec->exclude_images[i], (long long)info->num_images - 1);
    for (size_t i = 0; i < spec->num_exclude_classes; i++)
        if (spec->exclude_classes[i] < 0 || spec->exclude_classes[i] > last_class)
            return els_fail(err, ELS_EINVAL, "exclude",
                            "exclude.classes holds %lld, but bank %s has %d classes, counted from 0",
                            (long long)spec->exclude_classes[i], info->name, info->num_classes);
    return 0;
}

int els_bank_select(const struct els_bank *bank, const struct els_selection_spec *spec,
                    int64_t **indices, int64_t *count, struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(bank);
    const int64_t *labels = els_bank_labels(bank);
    int64_t limit = spec->max_samples ? spec->max_samples : info->num_images, n = 0;
    _cleanup_(els_freep) uint8_t *image_out = NULL;
    _cleanup_(els_freep) uint8_t *class_out = NULL;
    _cleanup_(els_freep) int64_t *chosen = NULL;
    int r = check_spec(info, spec, err);

    if (r < 0)
        return r;
    image_out = els_alloc_array((size_t)info->num_images, 1);
    class_out = els_alloc_array((size_t)info->num_classes, 1);
    chosen = els_alloc_array((size_t)info->num_images, sizeof(*chosen));
    if (!image_out || !class_out || !chosen)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (size_t i = 0; i < spec->num_exclude_images; i++)
        image_out[spec->exclude_images[i]] = 1;
    for (size_t i = 0; i < spec->num_exclude_classes; i++)
        class_out[spec->exclude_classes[i]] = 1;

    for (int64_t i = 0; i < info->num_images && n < limit; i++)
        if (!image_out[i] && (spec->label < 0 || labels[i] == spec->label) &&
            (!labels || !class_out[labels[i]]))
            chosen[n++] = i;
    if (n == 0)
        return els_fail(err, ELS_EINVAL, "bank", "the selection leaves no image of bank %s", info->name);
    *indices = chosen;
    *count = n;
    chosen = NULL;
    return 0;
}
