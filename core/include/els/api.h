/*
 * api: what every public header needs. ELS_API marks what the shared library exports; all else is hidden.
 *
 *     ELS_API const char *els_version(void);
 */
#ifndef ELS_API_H
#define ELS_API_H

#define ELS_API __attribute__((visibility("default")))

#ifdef __cplusplus
#define ELS_BEGIN_DECLS extern "C" {
#define ELS_END_DECLS }
#else
#define ELS_BEGIN_DECLS
#define ELS_END_DECLS
#endif

#endif
