/* base: files and folders, in a folder of the test's own. */
#include "base_tests.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/test_base_XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

static const char *in_folder(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void reads_and_replaces(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT(0);
    struct stat st;
    const char *path = in_folder("f");
    assert_int_equal(file_read(path, 100, &out, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(file_replace(path, "first", 5, &err), 0);
    assert_int_equal(file_replace(path, "second", 6, &err), 0);
    assert_int_equal(file_read(path, 6, &out, &err), 0);
    assert_string_equal(buf_cstr(&out), "second");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_read(path, 5, &out, &err), ERR_LIMIT);
    buf_free(&out);
    assert_true(file_replace(in_folder("absent/f"), "x", 1, &err) < 0);
}

/* A FIFO without a writer would hold its reader for ever; a reader of a device might take what is
 * not its own. The alarm ends this program if the read waits. */
static void reads_regular_files_only(void **state)
{
    (void)state;
    static const char *const others[] = {"fifo", "folder", "null"};
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT(0);
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(mkdir(in_folder("folder"), 0700), 0);
    assert_int_equal(symlink("/dev/null", in_folder("null")), 0);
    (void)alarm(10);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        const char *path = in_folder(others[i]);
        assert_int_equal(file_read(path, 100, &out, &err), ERR_IO);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, "not a regular file"));
        assert_int_equal(remove(path), 0);
    }
    (void)alarm(0);
    assert_int_equal(out.len, 0);
    /* a link to a regular file is as good as the file */
    assert_int_equal(file_replace(in_folder("target"), "text", 4, &err), 0);
    assert_int_equal(symlink("target", in_folder("link")), 0);
    assert_int_equal(file_read(in_folder("link"), 100, &out, &err), 0);
    assert_string_equal(buf_cstr(&out), "text");
    assert_int_equal(unlink(in_folder("link")), 0);
    assert_int_equal(unlink(in_folder("target")), 0);
    buf_free(&out);
}

/* A replacement that fails leaves the old file, and nothing beside it. */
static void failed_replacement_changes_nothing(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stat st;
    assert_int_equal(file_mkdirs(in_folder("full/sub"), &err), 0);
    assert_true(file_replace(in_folder("full"), "x", 1, &err) < 0); /* a folder is in its place */
    assert_int_equal(stat(in_folder("full/sub"), &st), 0);
    assert_int_equal(file_remove_tree(in_folder("full"), &err), 0);
    assert_int_equal(rmdir(folder), -1); /* "f" of the test before is in it ... */
    assert_int_equal(unlink(in_folder("f")), 0);
    assert_int_equal(rmdir(folder), 0); /* ... and nothing else: no temporary file */
    assert_int_equal(mkdir(folder, 0700), 0);
}

static void positions_and_vectors(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char back[16] = "";
    char a[] = "abc";
    char b[] = "defgh";
    struct iovec iov[] = {{a, 3}, {b, 0}, {b, 5}};
    int fd = open(in_folder("v"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(file_write_full(fd, "0123456789", 10, "v", &err), 0);
    assert_int_equal(file_pwritev_full(fd, iov, 3, 4, "v", &err), 0);
    assert_int_equal(file_pwrite_full(fd, "X", 1, 0, "v", &err), 0);
    assert_int_equal(file_pread_full(fd, back, 12, 0, "v", &err), 0);
    assert_string_equal(back, "X123abcdefgh");
    assert_int_equal(file_pread_full(fd, back, 13, 0, "v", &err), ERR_DATA);
    assert_int_equal(file_pread_full(fd, back, 1, 100, "v", &err), ERR_DATA);
    assert_int_equal(close(fd), 0);
    assert_int_equal(file_write_full(fd, "x", 1, "closed", &err), ERR_IO);
    assert_non_null(strstr(err.msg, "closed"));
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(file_write_full(fd, "x", 1, "full", &err), ERR_NOSPC);
    assert_int_equal(close(fd), 0);
}

static void folders_come_and_go(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stat st;
    assert_int_equal(file_mkdirs(in_folder("a/b/c"), &err), 0);
    assert_int_equal(file_mkdirs(in_folder("a/b/c"), &err), 0);
    assert_int_equal(stat(in_folder("a/b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(file_sync_dir(in_folder("a"), &err), 0);
    assert_true(file_sync_dir(in_folder("none"), &err) < 0);
    assert_int_equal(file_replace(in_folder("a/b/f"), "x", 1, &err), 0);
    assert_true(file_mkdirs(in_folder("a/b/f/g"), &err) < 0); /* a file is in the way */
    /* a link is removed, not what it points to */
    assert_int_equal(file_mkdirs(in_folder("kept"), &err), 0);
    assert_int_equal(file_replace(in_folder("kept/f"), "x", 1, &err), 0);
    assert_int_equal(symlink("../../kept", in_folder("a/b/link")), 0);
    assert_int_equal(file_remove_tree(in_folder("a"), &err), 0);
    assert_int_equal(stat(in_folder("a"), &st), -1);
    assert_int_equal(stat(in_folder("kept/f"), &st), 0);
    assert_int_equal(file_remove_tree(in_folder("a"), &err), 0);
}

static void paths(void **state)
{
    (void)state;
    static const char *const absolute[][2] = {
        {"/a/b", "/a/b"}, {"/a/./b/../c", "/a/c"}, {"/", "/"},
        {"/../..", "/"},  {"/a//b/", "/a/b"},      {"/a/..", "/"},
    };
    for (size_t i = 0; i < sizeof(absolute) / sizeof(absolute[0]); i++) {
        char *path = file_absolute(absolute[i][0]);
        assert_string_equal(path, absolute[i][1]);
        free(path);
    }
    char *here = getcwd(NULL, 0);
    char *joined = file_join(here, "x");
    char *relative = file_absolute("./y/../x");
    assert_string_equal(relative, joined);
    free(relative);
    free(joined);
    free(here);
}

int file_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_replaces),
        cmocka_unit_test(reads_regular_files_only),
        cmocka_unit_test(failed_replacement_changes_nothing),
        cmocka_unit_test(positions_and_vectors),
        cmocka_unit_test(folders_come_and_go),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests_name("files", tests, make_folder, remove_folder);
}
