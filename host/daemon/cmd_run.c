/*
 * connectd run: the host.
 *
 * Start order: config, lock, REST (answers "starting"), log, topics, pipelines, then the ready
 * line. Shutdown is the reverse:
 * REST, pipelines (drain), topics, log, lock. The main thread only waits for signals;
 * docs/threads.md lists the others.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/codec.h"
#include "daemon/cmd.h"
#include "daemon/lock.h"
#include "daemon/runfile.h"
#include "daemon/version.h"
#include "pipeline/pipeline.h"
#include "plog/plog.h"
#include "rest/rest.h"
#include "topic/topic.h"

#define START_DEADLINE_MS 60000
#define START_SLICE_MS    100

static const char help[] = "Usage: connectd run [-c FILE] [--set key=value]...\n\n"
                           "Runs the host until SIGTERM. FILE is ./connectd.yaml by default. When "
                           "everything that can start\n"
                           "has started, one line goes to stdout: connectd ready rest=URL pid=N "
                           "data=DIR. Logs go to stderr.\n";

struct host {
    struct cmd_paths paths;
    struct host_config config;
    struct declared declared;
    struct findings findings;
    struct lock lock;
    struct rest *rest;
    struct plog *log;
    struct topic_engine *engine;
    struct pipeline *pipeline;
    char cluster_id[33];
    sigset_t signals;
    int announced; /* DATA/run.json is written */
    int ended;     /* a signal came before the start was over */
};

/* ---- the process ---- */

static void harden(void)
{
    (void)umask(077);
#ifndef CONNECTD_SANITIZER
    (void)prctl(PR_SET_DUMPABLE, 0); /* other processes of this user can't read our memory */
#endif
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Blocked before any thread starts, so that only wait_for_end() takes them. */
static void block_signals(sigset_t *ret)
{
    (void)sigemptyset(ret);
    (void)sigaddset(ret, SIGTERM);
    (void)sigaddset(ret, SIGINT);
    (void)sigaddset(ret, SIGHUP);
    BUG_ON(pthread_sigmask(SIG_BLOCK, ret, NULL) != 0);
}

/* 1 if one of `set` that ends the host has come. Waits for it when `wait` is set. */
static int end_asked(const sigset_t *set, int wait)
{
    const struct timespec now = {0, 0};
    for (;;) {
        int sig = 0;
        if (wait) {
            BUG_ON(sigwait(set, &sig) != 0);
        } else if ((sig = sigtimedwait(set, NULL, &now)) < 0) {
            return 0;
        }
        if (sig != SIGHUP) {
            LOG_INFO("daemon", "SIG%s: draining", sigabbrev_np(sig));
            return 1;
        }
    }
}

/* ---- parts ---- */

static int load(struct host *h, const struct config_input *in, struct err *err)
{
    struct config_input full = *in;
    TRY(cmd_paths_find(&h->paths, err));
    full.bin_dir = h->paths.bin_dir;
    TRY(pipeline_config_load(&full, &h->config, &h->declared, &h->findings, err));
    pipeline_findings_sort(&h->findings);
    if (!pipeline_config_host_broken(&h->config, &h->findings)) {
        log_set_level(h->config.log_level);
        return 0;
    }
    for (size_t i = 0; i < h->findings.n; i++) {
        char line[4096];
        pipeline_findings_format(&h->findings.items[i], line, sizeof(line));
        (void)fprintf(stderr, "%s\n", line);
    }
    return err_set(err, ERR_CONFIG, "the host's config has mistakes; nothing was started");
}

/* A random id, made once for a data directory. */
static int cluster_id(struct host *h, struct err *err)
{
    char *path = file_join(h->config.data_dir, "cluster_id");
    struct buf text = BUF_INIT(4096 + 65536);
    int rc = path != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (rc == 0 && file_read(path, 64, &text, NULL) == 0 && text.len == 32) {
        memcpy(h->cluster_id, text.data, 32);
    } else if (rc == 0) {
        uint8_t bytes[16];
        if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
            rc = err_set_errno(err, ERR_IO, "getrandom");
        } else {
            str_hex(bytes, sizeof(bytes), h->cluster_id);
            rc = file_replace(path, h->cluster_id, 32, err);
        }
    }
    buf_free(&text);
    free(path);
    return rc;
}

static int start_rest(struct host *h, struct err *err)
{
    struct rest_options o = {.address = h->config.listen_host,
                             .port = (uint16_t)h->config.listen_port,
                             .version = VERSION_TEXT,
                             .commit = VERSION_COMMIT,
                             .cluster_id = h->cluster_id};
    return rest_start(&o, &h->rest, err);
}

/* CONNECTD_CONTROL makes the log lie on purpose, so that crash tests can show that they would
 * notice. */
static void apply_control(struct host *h, struct plog_options *o)
{
    const char *control = getenv("CONNECTD_CONTROL");
    if (control == NULL || *control == '\0') {
        return;
    }
    o->control_ack_before_write = strcmp(control, "ack-before-write") == 0;
    o->control_ack_before_sync = strcmp(control, "ack-before-sync") == 0;
    pipeline_findings_add(&h->findings, "", 0, 0, NULL, "CONNECTD_CONTROL", NULL,
                          "acks are lies on purpose (%s), for tests only", control);
    LOG_ERROR("daemon", "CONNECTD_CONTROL=%s: acks are lies on purpose, for tests only", control);
}

static int start_log(struct host *h, struct err *err)
{
    struct plog_options o = {.dir = h->config.data_dir,
                             .flush = h->config.flush,
                             .flush_interval_ms = h->config.flush_interval_ms};
    apply_control(h, &o);
    TRY(plog_open(&o, &h->log, err));
    struct topic_plog_options t = {.log = h->log};
    return topic_open_plog(&t, &h->engine, err);
}

static int start_pipelines(struct host *h, struct err *err)
{
    struct pipeline_options o = {.host = &h->config,
                                 .declared = &h->declared,
                                 .findings = &h->findings,
                                 .engine = h->engine,
                                 .runner = h->paths.runner,
                                 .worker_id = rest_authority(h->rest)};
    TRY(pipeline_open(&o, &h->pipeline, err));
    rest_set_ready(h->rest, h->pipeline, h->engine);
    int64_t deadline_ms = clock_mono_ms() + START_DEADLINE_MS;
    while (pipeline_wait_started(h->pipeline, clock_mono_ms() + START_SLICE_MS) != 0) {
        if (end_asked(&h->signals, 0)) {
            h->ended = 1;
            return 0;
        }
        if (clock_mono_ms() >= deadline_ms) {
            LOG_WARN("daemon", "some connectors are still starting after %d ms", START_DEADLINE_MS);
            break;
        }
    }
    pipeline_set_ready(h->pipeline);
    return 0;
}

/* DATA/run.json, as soon as REST answers: with port 0 nobody would find it otherwise. */
static int write_runfile(struct host *h, struct err *err)
{
    char url[256];
    (void)snprintf(url, sizeof(url), "http://%s", rest_authority(h->rest));
    TRY(runfile_write(h->config.data_dir, url, VERSION_TEXT, err));
    h->announced = 1;
    return 0;
}

static void print_ready(const struct host *h)
{
    const char *extra = "";
#ifdef CONNECTD_SANITIZER
    extra = " memory_limit=off";
#endif
    (void)printf("connectd ready rest=http://%s pid=%d data=%s%s\n", rest_authority(h->rest),
                 (int)getpid(), h->config.data_dir, extra);
    if (fflush(stdout) != 0) {
        LOG_WARN("daemon", "stdout is closed: %s", strerror(errno));
    }
}

static int start(struct host *h, const struct config_input *in, struct err *err)
{
    TRY(load(h, in, err));
    TRY(file_mkdirs(h->config.data_dir, err));
    TRY(lock_take(h->config.data_dir, &h->lock, err));
    TRY(cluster_id(h, err));
    TRY(start_rest(h, err));
    TRY(write_runfile(h, err));
    rest_set_stage(h->rest, "recovering the log");
    TRY(start_log(h, err));
    rest_set_stage(h->rest, "reading plugins and offsets");
    return start_pipelines(h, err);
}

static void stop(struct host *h)
{
    rest_stop(h->rest);
    pipeline_close(h->pipeline);
    topic_close(h->engine);
    plog_close(h->log);
    if (h->announced) {
        runfile_remove(h->config.data_dir);
    }
    lock_release(&h->lock);
    pipeline_findings_free(&h->findings);
    pipeline_declared_free(&h->declared);
    pipeline_config_host_free(&h->config);
    cmd_paths_free(&h->paths);
}

static int run(const struct config_input *in)
{
    struct err err = ERR_INIT;
    struct host h = {.lock = LOCK_NONE};
    harden();
    block_signals(&h.signals);
    int rc = start(&h, in, &err);
    if (rc == 0 && !h.ended) {
        print_ready(&h);
        (void)end_asked(&h.signals, 1);
    } else if (rc != 0) {
        (void)fprintf(stderr, "connectd run: %s\n", err.msg);
    }
    stop(&h);
    return rc == 0 ? 0 : 1;
}

int cmd_run(int argc, char **argv)
{
    struct config_input in = {0};
    const char **sets = calloc((size_t)argc + 1, sizeof(*sets));
    int code = sets == NULL ? 1 : -1;
    in.sets = sets;
    for (int i = 1; i < argc && code < 0; i++) {
        int took = cmd_config_arg(argc, argv, &i, &in, sets);
        if (took < 0) {
            code = 2;
        } else if (took == 0 && strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            code = 0;
        } else if (took == 0) {
            (void)fprintf(stderr, "connectd run: no option %s\n%s", argv[i], help);
            code = 2;
        }
    }
    if (code < 0) {
        code = run(&in);
    }
    free(sets);
    return code;
}
