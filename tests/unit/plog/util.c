/* What plog's tests share. */
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct err test_err;

char *test_dir(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char *path = NULL;
    assert_true(asprintf(&path, "%s/plog-test-XXXXXX", base) > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

void test_dir_drop(char *dir)
{
    OK(file_remove_tree(dir, &test_err));
    free(dir);
}

char *test_path(const char *a, const char *b)
{
    char *path = file_join(a, b);
    assert_non_null(path);
    return path;
}

static const char *copy_from;
static const char *copy_to;

static int copy_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    char to[PATH_MAX];
    (void)snprintf(to, sizeof(to), "%s%s", copy_to, path + strlen(copy_from));
    if (flag == FTW_D) {
        return mkdir(to, 0700);
    }
    int in = open(path, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char buf[65536];
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0) {
        if (write(out, buf, (size_t)n) != n) {
            n = -1;
            break;
        }
    }
    (void)close(in);
    (void)close(out);
    return n == 0 ? 0 : -1;
}

static struct buf *listing;

static int list_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)flag;
    (void)ftw;
    buf_printf(listing, "%s %llu %lld %lld.%ld\n", path, (unsigned long long)st->st_ino,
               (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    return 0;
}

void test_copy(const char *from, const char *to)
{
    struct buf before = BUF_INIT(0);
    struct buf after = BUF_INIT(0);
    for (int tries = 0;; tries++) {
        assert_true(tries < 1000);
        copy_from = from;
        copy_to = to;
        buf_clear(&before);
        buf_clear(&after);
        listing = &before;
        int rc = nftw(from, list_one, 16, FTW_PHYS);
        rc = rc == 0 ? nftw(from, copy_one, 16, FTW_PHYS) : rc;
        listing = &after;
        rc = rc == 0 ? nftw(from, list_one, 16, FTW_PHYS) : rc;
        if (rc == 0 && strcmp(buf_cstr(&before), buf_cstr(&after)) == 0) {
            break;
        }
        OK(file_remove_tree(to, &test_err));
    }
    buf_free(&before);
    buf_free(&after);
}

int64_t test_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : -1;
}

void test_truncate(const char *path, int64_t size)
{
    assert_int_equal(truncate(path, size), 0);
}

int test_garble(const char *path, int64_t at, int64_t n, int fill)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    int changed = 0;
    uint8_t *bytes = malloc((size_t)n);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, (size_t)n, at), n);
    for (int64_t i = 0; i < n; i++) {
        uint8_t was = bytes[i];
        bytes[i] = fill < 0 ? (uint8_t)~was : (uint8_t)fill;
        changed |= bytes[i] != was;
    }
    assert_int_equal(pwrite(fd, bytes, (size_t)n, at), n);
    free(bytes);
    (void)close(fd);
    return changed;
}

struct plog *test_open_with(struct plog_options o)
{
    struct plog *p = NULL;
    OK(plog_open(&o, &p, &test_err));
    return p;
}

struct plog *test_open(const char *dir)
{
    return test_open_with((struct plog_options){.dir = dir});
}

struct plog *test_crash_open(const char *dir, const char *copy)
{
    test_copy(dir, copy);
    return test_open(copy);
}

struct plog_partition *test_part(struct plog *p, const char *topic, int32_t number)
{
    struct plog_partition *t = NULL;
    OK(plog_partition_get(p, topic, number, &t, &test_err));
    return t;
}

void test_topic(struct plog *p, const char *name, int32_t partitions, const char *const *config)
{
    struct plog_config_entry entries[16];
    size_t n = 0;
    for (; config != NULL && config[2 * n] != NULL; n++) {
        entries[n] = (struct plog_config_entry){config[2 * n], config[2 * n + 1]};
    }
    OK(plog_topic_create(p, name, partitions, entries, n, &test_err));
}

void test_batch(struct buf *out, const char *tag, int n, size_t size, int64_t ts)
{
    struct record_builder b;
    record_builder_begin(&b, out);
    char *value = malloc(size + 64);
    assert_non_null(value);
    for (int i = 0; i < n; i++) {
        int len = snprintf(value, 64, "%s:%d:", tag, i);
        size_t total = (size_t)len < size ? size : (size_t)len;
        memset(value + len, 'x', total - (size_t)len);
        record_builder_add(&b, ts + i, slice_of(NULL, 0), slice_of(value, total), NULL, 0);
    }
    free(value);
    assert_true(record_builder_finish(&b, &test_err) > 0);
}

int64_t test_put(struct plog *p, struct plog_partition *t, const char *tag, int n, size_t size,
                 int64_t ts)
{
    struct buf b = BUF_INIT(0);
    test_batch(&b, tag, n, size, ts);
    struct plog_append a = {.partition = t, .batches = b.data, .len = b.len, .n_records = n};
    struct plog_unit u = {.appends = &a, .n_appends = 1};
    int rc = plog_commit(p, &u, &test_err);
    buf_free(&b);
    return rc < 0 ? rc : a.ret_base_offset;
}

int test_unit(struct plog *p, struct plog_partition **parts, size_t n_parts, const char *tag, int n,
              size_t size)
{
    struct plog_append a[16];
    struct buf b[16];
    assert_true(n_parts <= 16);
    for (size_t i = 0; i < n_parts; i++) {
        buf_init(&b[i], 0);
        test_batch(&b[i], tag, n, size, 1000);
        a[i] = (struct plog_append){
            .partition = parts[i], .batches = b[i].data, .len = b[i].len, .n_records = n};
    }
    struct plog_unit u = {.appends = a, .n_appends = n_parts};
    int rc = plog_commit(p, &u, &test_err);
    for (size_t i = 0; i < n_parts; i++) {
        buf_free(&b[i]);
    }
    return rc;
}

static void dump_batches(const struct buf *in, int64_t from, struct buf *out)
{
    size_t at = 0;
    while (at < in->len) {
        struct record_batch rb;
        struct record_iter it;
        struct record_view v;
        OK(record_batch_peek(in->data + at, in->len - at, in->len, &rb, &test_err));
        assert_true(record_batch_crc_ok(&rb));
        OK(record_iter_init(&it, &rb, &test_err));
        int rc = 0;
        while ((rc = record_iter_next(&it, &v, &test_err)) == 1) {
            if (v.offset < from) {
                continue;
            }
            const uint8_t *colon = memchr(v.value.ptr, ':', v.value.len);
            assert_non_null(colon);
            colon = memchr(colon + 1, ':', (size_t)(v.value.ptr + v.value.len - colon - 1));
            assert_non_null(colon);
            buf_printf(out, "%lld %.*s\n", (long long)v.offset, (int)(colon - v.value.ptr),
                       (const char *)v.value.ptr);
        }
        assert_int_equal(rc, 0);
        at += rb.bytes;
    }
}

void test_dump(struct plog_partition *t, int64_t from, struct buf *out)
{
    struct buf in = BUF_INIT(0);
    for (;;) {
        struct plog_read r;
        buf_clear(&in);
        err_clear(&test_err);
        int rc = plog_read(t, from, 100000, &in, &r, &test_err);
        if (rc == ERR_CORRUPT) {
            assert_true(r.next_offset > from);
            buf_printf(out, "%lld BAD\n", (long long)from);
            from = r.next_offset;
            continue;
        }
        if (rc < 0) {
            print_error("read at %lld: %s\n", (long long)from, test_err.msg);
        }
        assert_int_equal(rc, 0);
        if (r.bytes == 0) {
            assert_int_equal(r.next_offset, r.end_offset);
            break;
        }
        dump_batches(&in, from, out);
        from = r.next_offset;
    }
    buf_free(&in);
    (void)buf_cstr(out);
}

char *test_newest_journal(const char *dir, int64_t *ret_size)
{
    char *folder = test_path(dir, "journal");
    DIR *d = opendir(folder);
    assert_non_null(d);
    char newest[64] = "";
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (str_ends_with(e->d_name, ".journal") && strcmp(e->d_name, newest) > 0) {
            (void)snprintf(newest, sizeof(newest), "%.60s", e->d_name);
        }
    }
    (void)closedir(d);
    assert_true(newest[0] != '\0');
    char *path = test_path(folder, newest);
    free(folder);
    *ret_size = test_size(path);
    return path;
}
