/*
 * base: what every other room stands on. Nothing here knows of topics, plugins or HTTP.
 *
 * This header only gathers the small ones; include the one that is needed, or this.
 * Threads: everything here is free of shared state unless its own header says otherwise.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "base/thread.h"

#endif
