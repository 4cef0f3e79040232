/*
 * version: of the library that runs, which may be another than the one whose headers were compiled.
 *
 *     printf("libels %s\n", els_version());
 */
#ifndef ELS_VERSION_H
#define ELS_VERSION_H

#include "els/api.h"

ELS_BEGIN_DECLS

/* "MAJOR.MINOR.PATCH"; constant. Any thread. */
ELS_API const char *els_version(void);

ELS_END_DECLS

#endif
