/* A live sandbox: several runs, side by side too, in one file system; its end. */
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static void several_runs(void)
{
    stockade_spec *first = shell("echo one > /work/kept; pwd"), *second = shell("cat /work/kept");
    stockade_sandbox *sandbox = NULL;
    stockade_outcome *outcome = NULL;
    int round;
    WORKS(stockade_sandbox_start(first, &sandbox, &failed));
    CHECK(sandbox != NULL);
    WORKS(stockade_sandbox_run(sandbox, first, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "/work\n");
    stockade_outcome_free(outcome);
    for (round = 0; round < 20; round++) {
        WORKS(stockade_sandbox_run(sandbox, second, &outcome, &failed));
        CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "one\n");
        CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
        stockade_outcome_free(outcome);
    }
    WORKS(stockade_sandbox_close(sandbox, &failed));
    WORKS(stockade_sandbox_close(sandbox, &failed));
    FAILS(stockade_sandbox_run(sandbox, second, &outcome, &failed), STOCKADE_ERROR_STATE, "closed");
    CHECK(outcome == NULL);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(first);
    stockade_spec_free(second);
}

static void side_by_side(void)
{
    stockade_spec *waits = shell("while ! [ -e /work/go ]; do sleep 0.02; done; echo gone");
    stockade_spec *goes = shell("touch /work/go");
    stockade_sandbox *sandbox = NULL;
    stockade_process *waiting = NULL, *going = NULL;
    stockade_outcome *outcome = NULL;
    WORKS(stockade_sandbox_start(waits, &sandbox, &failed));
    WORKS(stockade_sandbox_spawn(sandbox, waits, &waiting, &failed));
    WORKS(stockade_sandbox_spawn(sandbox, goes, &going, &failed));
    WORKS(stockade_process_wait(waiting, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "gone\n");
    stockade_outcome_free(outcome);
    WORKS(stockade_process_wait(going, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    stockade_outcome_free(outcome);
    stockade_process_free(waiting);
    stockade_process_free(going);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(waits);
    stockade_spec_free(goes);
}

/* Closing ends what runs inside; a process outlives the handle of its sandbox. */
static void closing_ends_it(void)
{
    stockade_spec *spec = shell("sleep 1000");
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    stockade_outcome *outcome = NULL;
    int pid = 0;
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_spawn(sandbox, spec, &process, &failed));
    CHECK(stockade_process_pid(process, &pid));
    stockade_sandbox_free(sandbox);
    CHECK(kill(pid, 0) == -1 && errno == ESRCH);
    WORKS(stockade_process_wait(process, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) != STOCKADE_VERDICT_OK);
    stockade_outcome_free(outcome);
    stockade_process_free(process);
    stockade_spec_free(spec);
}

static void fixed_fields(void)
{
    stockade_spec *spec = shell("true"), *other = stockade_spec_clone(spec);
    stockade_sandbox *sandbox = NULL;
    stockade_outcome *outcome = NULL;
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    CHECK(stockade_spec_set_hostname(other, "elsewhere") == 0);
    FAILS(stockade_sandbox_run(sandbox, other, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "hostname");
    FAILS(stockade_sandbox_run(NULL, spec, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`sandbox` is NULL");
    FAILS(stockade_sandbox_run(sandbox, NULL, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`spec` is NULL");
    FAILS(stockade_sandbox_run(sandbox, spec, NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`outcome` is NULL");
    FAILS(stockade_sandbox_close(NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`sandbox` is NULL");
    stockade_sandbox_free(sandbox);
    stockade_sandbox_free(NULL);
    stockade_spec_free(spec);
    stockade_spec_free(other);
}

/* A root that can be written to, over an empty directory: what was changed, and back to the start. */
static void writable_root(void)
{
    char dir[] = "/tmp/stockade-capi-XXXXXX";
    const char *links[] = {"bin", "lib", "lib64"};
    stockade_spec *spec = shell("echo new > /new; mkdir /below; echo x > /below/file; cat /new");
    stockade_spec *looks = NULL;
    stockade_sandbox *sandbox = NULL;
    stockade_outcome *outcome = NULL;
    stockade_changes *changes = NULL;
    size_t i, length;
    void *content;
    char copy[64], inner[80];
    int fd = -2;
    CHECK(mkdtemp(dir) != NULL && chmod(dir, 0755) == 0);
    for (i = 0; i < 3; i++) {
        char target[32], path[64];
        snprintf(target, sizeof target, "usr/%s", links[i]);
        snprintf(path, sizeof path, "%s/%s", dir, links[i]);
        CHECK(symlink(target, path) == 0);
    }
    snprintf(copy, sizeof copy, "%s/copy", dir);
    CHECK(stockade_spec_set_rootfs(spec, dir) == 0);
    CHECK(stockade_spec_set_overlay(spec, STOCKADE_OVERLAY_AUTO) == 0);
    CHECK(stockade_spec_add_volume(spec, "/usr", "/usr", 0) == 0);
    looks = stockade_spec_clone(spec);
    CHECK(stockade_spec_set_args(looks, (const char *[]){"sh", "-c", "test ! -e /new", NULL}) == 0);
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_run(sandbox, spec, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "new\n");
    CHECK(stockade_outcome_enforcement(outcome, "overlay") != NULL);
    stockade_outcome_free(outcome);
    WORKS(stockade_sandbox_changes(sandbox, &changes, &failed));
    CHECK(stockade_changes_count(changes) == 3);
    CHECK_TEXT(stockade_changes_path(changes, 1), "/below/file");
    CHECK(stockade_changes_kind(changes, 2) == 'A');
    CHECK(stockade_changes_path(changes, 3) == NULL && stockade_changes_kind(changes, 3) == 0);
    stockade_changes_free(changes);
    WORKS(stockade_sandbox_upper(sandbox, &fd, &failed));
    CHECK(faccessat(fd, "below/file", F_OK, 0) == 0);
    CHECK(close(fd) == 0);
    WORKS(stockade_sandbox_put(sandbox, "/below/put", "put\n", 4, 0600, &failed));
    WORKS(stockade_sandbox_get(sandbox, "/below/put", &content, &length, &failed));
    CHECK(length == 4 && memcmp(content, "put\n", 4) == 0);
    stockade_bytes_free(content);
    FAILS(stockade_sandbox_get(sandbox, "/missing", &content, &length, &failed), STOCKADE_ERROR_SETUP, "/missing");
    CHECK(content == NULL && length == 0);
    FAILS(stockade_sandbox_put(sandbox, "/x", NULL, 1, 0, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`content` is NULL");
    WORKS(stockade_sandbox_get_tree(sandbox, "/below", copy, &failed));
    WORKS(stockade_sandbox_put_tree(sandbox, "/again", copy, &failed));
    WORKS(stockade_sandbox_get(sandbox, "/again/file", &content, &length, &failed));
    CHECK(length == 2);
    stockade_bytes_free(content);
    WORKS(stockade_sandbox_reset(sandbox, &failed));
    WORKS(stockade_sandbox_run(sandbox, looks, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    stockade_outcome_free(outcome);
    WORKS(stockade_sandbox_close(sandbox, &failed));
    FAILS(stockade_sandbox_reset(sandbox, &failed), STOCKADE_ERROR_STATE, "closed");
    FAILS(stockade_sandbox_changes(sandbox, &changes, &failed), STOCKADE_ERROR_STATE, "closed");
    CHECK(changes == NULL);
    FAILS(stockade_sandbox_upper(NULL, &fd, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`sandbox` is NULL");
    CHECK(fd == -1);
    stockade_sandbox_free(sandbox);
    stockade_changes_free(NULL);
    stockade_spec_free(spec);
    stockade_spec_free(looks);
    for (i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", dir, links[i]);
        CHECK(unlink(path) == 0);
    }
    snprintf(inner, sizeof inner, "%s/file", copy);
    CHECK(unlink(inner) == 0);
    snprintf(inner, sizeof inner, "%s/put", copy);
    CHECK(unlink(inner) == 0);
    CHECK(rmdir(copy) == 0);
    CHECK(rmdir(dir) == 0);
}

int main(void)
{
    several_runs();
    writable_root();
    side_by_side();
    closing_ends_it();
    fixed_fields();
    return 0;
}
