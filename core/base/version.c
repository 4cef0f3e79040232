/*
 * The version: Meson's, given to the compiler.
 */
#include "els/version.h"

const char *els_version(void)
{
    return ELS_VERSION;
}
