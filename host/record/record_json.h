/* record, private: the seam between the C files and json_values.cc. */
#ifndef RECORD_RECORD_JSON_H
#define RECORD_RECORD_JSON_H

#include <stddef.h>

#include "connectd/sdk.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As record_json_parse(), into an arena of the plugin ABI. No base headers: they are C. */
ctd_status record_json_to_value(const void *p, size_t n, ctd_arena *arena, ctd_value *ret,
                                ctd_error *err);

#ifdef __cplusplus
}
#endif
#endif
