/*
 * Chooses the kernel, once per process. The choice is the only mutable global of libels: set by
 * the first caller (or by els_engine_use_kernel before it), read by all.
 */
#include "core/kernel/kernel.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/cpu.h"

static const struct els_kernel *const kernels[] = {
    &els_kernel_c,
#ifdef __x86_64__
    &els_kernel_avx2,
    &els_kernel_avx512,
    &els_kernel_avx512vnni,
    &els_kernel_avx512lists,
#elif defined __aarch64__
    &els_kernel_neon,
#endif
};

enum { NUM_KERNELS = sizeof(kernels) / sizeof(*kernels) };

/* Release when set, acquire when read: what it points at is constant anyway. */
static _Atomic(const struct els_kernel *) chosen;

const struct els_kernel *els_kernel_at(int i)
{
    return i >= 0 && i < NUM_KERNELS ? kernels[i] : NULL;
}

static const struct els_kernel *find(const char *name)
{
    for (int i = 0; i < NUM_KERNELS; i++)
        if (strcmp(kernels[i]->name, name) == 0 && kernels[i]->usable())
            return kernels[i];
    return NULL;
}

static const struct els_kernel *fastest(void)
{
    int i = NUM_KERNELS - 1;

    while (!kernels[i]->usable())
        i--;
    return kernels[i]; /* "c" is always usable */
}

const struct els_kernel *els_kernel_chosen(void)
{
    const struct els_kernel *k = atomic_load_explicit(&chosen, memory_order_acquire), *none = NULL;
    const char *name;

    if (k)
        return k;
    name = getenv("ELS_CPU");
    k = name ? find(name) : NULL;
    if (!k)
        k = fastest();
    if (!atomic_compare_exchange_strong(&chosen, &none, k))
        k = none;
    return k;
}

int els_engine_use_kernel(const char *name, struct els_error *err)
{
    const struct els_kernel *k = strcmp(name, "auto") == 0 ? fastest() : find(name);
    char list[128] = "auto";

    if (k) {
        atomic_store_explicit(&chosen, k, memory_order_release);
        return 0;
    }
    for (int i = 0; i < NUM_KERNELS; i++)
        if (kernels[i]->usable()) {
            size_t used = strlen(list);

            snprintf(list + used, sizeof(list) - used, ", %s", kernels[i]->name);
        }
    return els_fail(err, ELS_ENOENT, "cpu",
                    "cpu is one of %s here, not \"%s\".", list, name);
}

const char *els_engine_kernel(void)
{
    return els_kernel_chosen()->name;
}
