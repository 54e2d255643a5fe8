/*
 * What both directions share: names of stages, the size of the shared page, finding whole frames in a
 * stream. Threads: no state; any thread.
 */
#include "link/link.h"

const char *link_stage_name(int stage)
{
    static const char *const names[LINK_STAGE_COUNT] = {
        [LINK_STAGE_NONE] = "",
        [LINK_STAGE_DLOPEN] = "dlopen",
        [LINK_STAGE_MODULE] = "module",
        [LINK_STAGE_INIT] = "init",
        [LINK_STAGE_VALIDATE] = "validate",
        [LINK_STAGE_CREATE] = "create",
        [LINK_STAGE_FAN_OUT] = "fan_out",
        [LINK_STAGE_START] = "start",
        [LINK_STAGE_OPEN] = "open",
        [LINK_STAGE_POLL] = "poll",
        [LINK_STAGE_PUT] = "put",
        [LINK_STAGE_FLUSH] = "flush",
        [LINK_STAGE_ON_RESULT] = "on_result",
        [LINK_STAGE_CANCEL] = "cancel",
        [LINK_STAGE_CLOSE] = "close",
        [LINK_STAGE_STOP] = "stop",
        [LINK_STAGE_ALTER_OFFSETS] = "alter_offsets",
        [LINK_STAGE_DESTROY] = "destroy",
        [LINK_STAGE_CONVERT] = "convert",
        [LINK_STAGE_TRANSFORM] = "transform",
        [LINK_STAGE_PREDICATE] = "predicate",
    };
    return stage >= 0 && stage < LINK_STAGE_COUNT ? names[stage] : "";
}

size_t link_shared_bytes(uint32_t n_tasks)
{
    return sizeof(struct link_shared) + (size_t)n_tasks * sizeof(struct link_slot);
}

int link_frame_peek(const uint8_t *p, size_t n, size_t max, struct link_frame *ret,
                    size_t *ret_bytes, struct err *err)
{
    if (n < LINK_HEAD) {
        *ret_bytes = LINK_HEAD;
        return 0;
    }
    struct cursor c;
    cursor_init(&c, p, LINK_HEAD);
    size_t len = cursor_le32(&c);
    uint16_t type = cursor_le16(&c);
    uint16_t flags = cursor_le16(&c);
    uint32_t task = cursor_le32(&c);
    if (flags != 0) {
        return err_set(err, ERR_DATA, "link frame of type %u: unknown flags 0x%x", type, flags);
    }
    if (max < LINK_HEAD || len > max - LINK_HEAD) {
        return err_set(err, ERR_DATA, "link frame of type %u: %zu bytes, at most %zu are allowed",
                       type, len, max);
    }
    *ret_bytes = LINK_HEAD + len;
    if (n < *ret_bytes) {
        return 0;
    }
    *ret = (struct link_frame){.type = type, .task = task, .payload = {p + LINK_HEAD, len}};
    return 1;
}
