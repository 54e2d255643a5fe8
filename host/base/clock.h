/* Clocks. Every deadline uses the monotonic clock; wall time is only ever record data.
 * Thread-safe. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);
int64_t clock_wall_ms(void); /* since 1970-01-01 UTC */

#endif
