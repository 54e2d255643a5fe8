/*
 * The layout of draft 0, written down: size and offset of every field, value of every constant. A
 * change that breaks plugins built against this draft stops the build here; a new draft changes this
 * file and sdk/abi/HISTORY.md together. Appending to a control struct changes its SIZE line alone.
 */
#include <connectd/abi.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define AT(type, field, off)                                                                       \
    _Static_assert(offsetof(type, field) == (off), "place of " #type "." #field)
#define IS(name, value) _Static_assert((name) == (value), "value of " #name)

_Static_assert(CTD_ABI_MAGIC_DRAFT == 0x44445443u, "magic of drafts");
_Static_assert(CTD_ABI_MAGIC == 0x31445443u, "magic of v1");
_Static_assert(CTD_ABI_MINOR == 0, "draft");

SIZE(ctd_error, 512);
AT(ctd_error, status, 0);
AT(ctd_error, sys_errno, 4);
AT(ctd_error, record_index, 8);
AT(ctd_error, retry_after_ms, 16);
AT(ctd_error, reserved, 24);
AT(ctd_error, message, 64);

SIZE(ctd_slice, 16);
AT(ctd_slice, ptr, 0);
AT(ctd_slice, len, 8);

SIZE(ctd_value, 16);
AT(ctd_value, type, 0);
AT(ctd_value, flags, 1);
AT(ctd_value, reserved, 2);
AT(ctd_value, len, 4);
AT(ctd_value, u, 8);

SIZE(ctd_header, 40);
AT(ctd_header, name, 0);
AT(ctd_header, schema, 16);
AT(ctd_header, value, 24);

SIZE(ctd_record, 200);
AT(ctd_record, topic, 0);
AT(ctd_record, partition, 16);
AT(ctd_record, timestamp_type, 20);
AT(ctd_record, flags, 24);
AT(ctd_record, reserved0, 28);
AT(ctd_record, timestamp_ms, 32);
AT(ctd_record, offset, 40);
AT(ctd_record, key_schema, 48);
AT(ctd_record, value_schema, 56);
AT(ctd_record, key, 64);
AT(ctd_record, value, 80);
AT(ctd_record, headers, 96);
AT(ctd_record, n_headers, 104);
AT(ctd_record, source_partition, 112);
AT(ctd_record, source_offset, 128);
AT(ctd_record, original_topic, 144);
AT(ctd_record, original_partition, 160);
AT(ctd_record, reserved1, 164);
AT(ctd_record, reserved, 168);

SIZE(ctd_batch, 64);
AT(ctd_batch, n, 0);
AT(ctd_batch, first_seq, 8);
AT(ctd_batch, records, 16);
AT(ctd_batch, priv, 24);
AT(ctd_batch, release, 32);
AT(ctd_batch, reserved, 40);

SIZE(ctd_result, 64);
AT(ctd_result, outcome, 0);
AT(ctd_result, partition, 4);
AT(ctd_result, offset, 8);
AT(ctd_result, topic, 16);
AT(ctd_result, status, 32);
AT(ctd_result, flush, 36);
AT(ctd_result, retry_after_ms, 40);
AT(ctd_result, reserved, 48);

SIZE(ctd_assignment, 72);
AT(ctd_assignment, topic, 0);
AT(ctd_assignment, topic_id, 16);
AT(ctd_assignment, partition, 32);
AT(ctd_assignment, reserved0, 36);
AT(ctd_assignment, epoch, 40);
AT(ctd_assignment, offset, 48);
AT(ctd_assignment, reserved, 56);

SIZE(ctd_config_key, 96);
AT(ctd_config_key, struct_size, 0);
AT(ctd_config_key, type, 4);
AT(ctd_config_key, flags, 8);
AT(ctd_config_key, importance, 12);
AT(ctd_config_key, name, 16);
AT(ctd_config_key, def, 24);
AT(ctd_config_key, doc, 32);
AT(ctd_config_key, group, 40);
AT(ctd_config_key, display, 48);
AT(ctd_config_key, allowed, 56);
AT(ctd_config_key, dependents, 64);
AT(ctd_config_key, min, 72);
AT(ctd_config_key, max, 80);
AT(ctd_config_key, order, 88);
AT(ctd_config_key, width, 92);

SIZE(ctd_issues, 24);
AT(ctd_issues, struct_size, 0);
AT(ctd_issues, reserved, 4);
AT(ctd_issues, priv, 8);
AT(ctd_issues, add, 16);

SIZE(ctd_arena, 24);
AT(ctd_arena, struct_size, 0);
AT(ctd_arena, reserved, 4);
AT(ctd_arena, priv, 8);
AT(ctd_arena, alloc, 16);

SIZE(ctd_task_configs, 24);
AT(ctd_task_configs, struct_size, 0);
AT(ctd_task_configs, reserved, 4);
AT(ctd_task_configs, priv, 8);
AT(ctd_task_configs, set, 16);

SIZE(ctd_class_ops, 72);
AT(ctd_class_ops, struct_size, 0);
AT(ctd_class_ops, reserved, 4);
AT(ctd_class_ops, validate, 8);
AT(ctd_class_ops, create, 16);
AT(ctd_class_ops, destroy, 24);
AT(ctd_class_ops, extension, 32);
AT(ctd_class_ops, fan_out, 40);
AT(ctd_class_ops, reserved_fn, 48);

SIZE(ctd_source, 112);
AT(ctd_source, base, 0);
AT(ctd_source, start, 72);
AT(ctd_source, poll, 80);
AT(ctd_source, cancel, 88);
AT(ctd_source, on_result, 96);
AT(ctd_source, stop, 104);

SIZE(ctd_sink, 136);
AT(ctd_sink, base, 0);
AT(ctd_sink, start, 72);
AT(ctd_sink, open, 80);
AT(ctd_sink, put, 88);
AT(ctd_sink, flush, 96);
AT(ctd_sink, close, 104);
AT(ctd_sink, cancel, 112);
AT(ctd_sink, stop, 120);
AT(ctd_sink, alter_offsets, 128);

SIZE(ctd_converter, 88);
AT(ctd_converter, base, 0);
AT(ctd_converter, encode, 72);
AT(ctd_converter, decode, 80);

SIZE(ctd_transform, 80);
AT(ctd_transform, base, 0);
AT(ctd_transform, apply, 72);

SIZE(ctd_predicate, 80);
AT(ctd_predicate, base, 0);
AT(ctd_predicate, test, 72);

SIZE(ctd_class, 72);
AT(ctd_class, struct_size, 0);
AT(ctd_class, kind, 4);
AT(ctd_class, name, 8);
AT(ctd_class, version, 16);
AT(ctd_class, doc, 24);
AT(ctd_class, aliases, 32);
AT(ctd_class, config, 40);
AT(ctd_class, n_config, 48);
AT(ctd_class, config_stride, 52);
AT(ctd_class, flags, 56);
AT(ctd_class, reserved, 60);
AT(ctd_class, ops, 64);

SIZE(ctd_module, 40);
AT(ctd_module, magic, 0);
AT(ctd_module, struct_size, 4);
AT(ctd_module, abi_minor, 8);
AT(ctd_module, min_host_minor, 12);
AT(ctd_module, n_classes, 16);
AT(ctd_module, class_stride, 20);
AT(ctd_module, classes, 24);
AT(ctd_module, init, 32);

SIZE(ctd_offsets, 16);
AT(ctd_offsets, struct_size, 0);
AT(ctd_offsets, reserved, 4);
AT(ctd_offsets, get, 8);

SIZE(ctd_host, 120);
AT(ctd_host, struct_size, 0);
AT(ctd_host, abi_minor, 4);
AT(ctd_host, priv, 8);
AT(ctd_host, product, 16);
AT(ctd_host, version, 24);
AT(ctd_host, connector, 32);
AT(ctd_host, task, 40);
AT(ctd_host, n_tasks, 44);
AT(ctd_host, log_enabled, 48);
AT(ctd_host, log, 56);
AT(ctd_host, progress, 64);
AT(ctd_host, cfg_i64, 72);
AT(ctd_host, cfg_f64, 80);
AT(ctd_host, cfg_str, 88);
AT(ctd_host, cfg_list, 96);
AT(ctd_host, cfg_at, 104);
AT(ctd_host, extension, 112);

IS(CTD_OK, 0);
IS(CTD_E_CONFIG, -1);
IS(CTD_E_DATA, -2);
IS(CTD_E_IO, -3);
IS(CTD_E_RETRIABLE, -4);
IS(CTD_E_FATAL, -5);
IS(CTD_E_CANCELLED, -6);
IS(CTD_E_NOMEM, -7);
IS(CTD_E_UNSUPPORTED, -8);
IS(CTD_E_FENCED, -9);
IS(CTD_NULL, 0);
IS(CTD_BOOL, 1);
IS(CTD_I8, 2);
IS(CTD_I16, 3);
IS(CTD_I32, 4);
IS(CTD_I64, 5);
IS(CTD_F32, 6);
IS(CTD_F64, 7);
IS(CTD_STRING, 8);
IS(CTD_BYTES, 9);
IS(CTD_ARRAY, 10);
IS(CTD_MAP, 11);
IS(CTD_STRUCT, 12);
IS(CTD_VF_RAW_JSON, 1);
IS(CTD_DURABLE, 0);
IS(CTD_FILTERED, 1);
IS(CTD_DEAD_LETTERED, 2);
IS(CTD_FAILED, 3);
IS(CTD_CFG_BOOL, 1);
IS(CTD_CFG_I64, 2);
IS(CTD_CFG_F64, 3);
IS(CTD_CFG_STRING, 4);
IS(CTD_CFG_LIST, 5);
IS(CTD_CFG_SECRET, 6);
IS(CTD_CFG_DURATION_MS, 7);
IS(CTD_CFG_BYTES, 8);
IS(CTD_CFG_REGEX, 9);
IS(CTD_CFGF_REQUIRED, 1);
IS(CTD_CFGF_INTERNAL, 2);
IS(CTD_CFGF_DEPRECATED, 4);
IS(CTD_CFGF_PREFIX, 8);
IS(CTD_CFGF_PATH, 16);
IS(CTD_LOG_ERROR, 1);
IS(CTD_LOG_WARN, 2);
IS(CTD_LOG_INFO, 3);
IS(CTD_LOG_DEBUG, 4);
IS(CTD_KIND_SOURCE, 1);
IS(CTD_KIND_SINK, 2);
IS(CTD_KIND_CONVERTER, 3);
IS(CTD_KIND_TRANSFORM, 4);
IS(CTD_KIND_PREDICATE, 5);
IS(CTD_CLASSF_SINGLE_TASK, 1);
IS(CTD_CLASSF_OFFSETS_IN_TARGET, 2);
IS(CTD_CLASSF_BUFFERS, 4);
