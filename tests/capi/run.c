/* A run, and everything an outcome tells. */
#include "check.h"

#include <signal.h>

static void ends(void)
{
    int number = 77;
    stockade_outcome *outcome = run_shell("echo out; echo err >&2");
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    CHECK_TEXT(stockade_verdict_name(stockade_outcome_verdict(outcome)), "OK");
    CHECK(stockade_outcome_returncode(outcome) == 0);
    CHECK(stockade_outcome_exit_code(outcome, &number) && number == 0);
    CHECK(!stockade_outcome_signal(outcome, &number));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "out\n");
    CHECK_TEXT(stockade_outcome_stderr(outcome, NULL), "err\n");
    CHECK(stockade_outcome_limit(outcome) == NULL);
    CHECK(stockade_outcome_message(outcome) == NULL);
    stockade_outcome_free(outcome);

    outcome = run_shell("exit 3");
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_NONZERO_EXIT);
    CHECK_TEXT(stockade_verdict_short(stockade_outcome_verdict(outcome)), "RTE");
    CHECK(stockade_outcome_returncode(outcome) == 3);
    CHECK(stockade_outcome_exit_code(outcome, &number) && number == 3);
    CHECK(stockade_outcome_exit_code(outcome, NULL));
    stockade_outcome_free(outcome);

    number = 77;
    outcome = run_shell("kill -SEGV $$");
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_SIGNALED);
    CHECK(stockade_outcome_returncode(outcome) == -SIGSEGV);
    CHECK(!stockade_outcome_exit_code(outcome, &number) && number == 77);
    CHECK(stockade_outcome_signal(outcome, &number) && number == SIGSEGV);
    stockade_outcome_free(outcome);
}

static void exec_fails(void)
{
    const char *missing[] = {"no-such-program", NULL};
    stockade_spec *spec = stockade_spec_new();
    stockade_outcome *outcome = NULL;
    CHECK(stockade_spec_set_args(spec, missing) == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_EXEC_FAILED);
    CHECK(stockade_outcome_returncode(outcome) == 127);
    CHECK(strstr(stockade_outcome_message(outcome), "no-such-program") != NULL);
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
}

static void bytes_both_ways(void)
{
    static const char data[] = "a\0b\377\n";
    stockade_spec *spec = shell("cat; printf %s \"$NAME\" >&2");
    stockade_outcome *outcome = NULL;
    size_t length = 0;
    CHECK(stockade_spec_set_input(spec, data, sizeof data) == STOCKADE_OK);
    CHECK(stockade_spec_set_env(spec, "NAME", "caf\351") == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(memcmp(stockade_outcome_stdout(outcome, &length), data, sizeof data) == 0);
    CHECK(length == sizeof data && stockade_outcome_stdout_bytes(outcome) == sizeof data);
    CHECK(stockade_outcome_stdout(outcome, NULL)[length] == '\0');
    CHECK_TEXT(stockade_outcome_stderr(outcome, &length), "caf\351");
    CHECK(length == 4 && stockade_outcome_stderr_bytes(outcome) == 4);
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);

    outcome = run_shell("cat");
    CHECK_TEXT(stockade_outcome_stdout(outcome, &length), "");
    CHECK(length == 0);
    stockade_outcome_free(outcome);
}

static void truncates(void)
{
    stockade_spec *spec = shell("head -c 5000 /dev/zero | tr '\\0' x; echo short >&2");
    stockade_outcome *outcome = NULL;
    size_t length = 0;
    CHECK(stockade_spec_set_output(spec, 1000) == STOCKADE_OK);
    CHECK(stockade_spec_set_output_overflow(spec, STOCKADE_OVERFLOW_DISCARD) == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OUTPUT_LIMIT);
    CHECK_TEXT(stockade_outcome_limit(outcome), "output");
    CHECK(strlen(stockade_outcome_stdout(outcome, &length)) == 1000 && length == 1000);
    CHECK(stockade_outcome_stdout_truncated(outcome));
    CHECK(stockade_outcome_stdout_bytes(outcome) == 5000);
    CHECK(!stockade_outcome_stderr_truncated(outcome));
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
}

static void files_in_and_out(void)
{
    stockade_spec *spec = shell("cp in/a out; ./tool > made; ln -s /etc/passwd link");
    stockade_outcome *outcome = NULL;
    const stockade_output *output;
    size_t length = 0;
    CHECK(stockade_spec_add_file(spec, "in/a", "x\0yz", 4, 0600) == STOCKADE_OK);
    CHECK(stockade_spec_add_file(spec, "tool", "#!/bin/sh\necho made\n", 20, 0755) == STOCKADE_OK);
    CHECK(stockade_spec_add_output(spec, "out") == STOCKADE_OK);
    CHECK(stockade_spec_add_output(spec, "made") == STOCKADE_OK);
    CHECK(stockade_spec_add_output(spec, "link") == STOCKADE_OK);
    CHECK(stockade_spec_set_output_file_size(spec, 4) == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    CHECK(stockade_outcome_output_count(outcome) == 3);

    output = stockade_outcome_output(outcome, "out");
    CHECK_TEXT(stockade_output_path(output), "out");
    CHECK(memcmp(stockade_output_content(output, &length), "x\0yz", 5) == 0 && length == 4);
    CHECK(stockade_output_size(output) == 4 && !stockade_output_truncated(output));
    CHECK(stockade_output_error(output) == NULL);

    output = stockade_outcome_output(outcome, "made");
    CHECK_TEXT(stockade_output_content(output, NULL), "made");
    CHECK(stockade_output_size(output) == 5 && stockade_output_truncated(output));

    output = stockade_outcome_output(outcome, "link");
    CHECK(stockade_output_error(output) != NULL);
    CHECK_TEXT(stockade_output_content(output, &length), "");
    CHECK(length == 0);

    CHECK_TEXT(stockade_output_path(stockade_outcome_output_at(outcome, 0)), "link");
    CHECK(stockade_outcome_output_at(outcome, 2) == stockade_outcome_output(outcome, "out"));
    CHECK(stockade_outcome_output_at(outcome, 3) == NULL);
    CHECK(stockade_outcome_output(outcome, "else") == NULL);
    CHECK(stockade_outcome_output(outcome, NULL) == NULL);
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
}

static void usage(void)
{
    stockade_outcome *outcome = run_shell("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done");
    uint64_t total = 0, user = 0, system = 0, wall = 0, value = 77;
    int number;
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_CPU_TIME, &total) && total > 0);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_CPU_USER, &user));
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_CPU_SYSTEM, &system));
    CHECK(user + system > 0);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_WALL_TIME, &wall) && wall > 0 && wall < 60 * SECOND);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_MAX_RSS, &value) && value > 64 * 1024);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_OOM_KILLED, &value) && value == 0);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_CPU_TIME, NULL));
    CHECK(stockade_outcome_usage_source(outcome, STOCKADE_USAGE_CPU_TIME) != NULL);
    /* Known or not, a figure says the same twice; what does not exist is not known and touches nothing. */
    for (number = -1; number < 40; number++)
        CHECK(stockade_outcome_usage(outcome, number, NULL) == stockade_outcome_usage(outcome, number, &value));
    value = 77;
    CHECK(!stockade_outcome_usage(outcome, -1, &value) && !stockade_outcome_usage(outcome, 1000, &value) && value == 77);
    CHECK(stockade_outcome_usage_source(outcome, -1) == NULL);
    CHECK(stockade_outcome_usage_source(outcome, 1000) == NULL);
    stockade_outcome_free(outcome);
}

static void violation(void)
{
    stockade_spec *spec = shell("mkdir made; echo after");
    stockade_outcome *outcome = NULL;
    const stockade_violation *found;
    const char *name;
    unsigned index;
    CHECK(stockade_spec_set_profile(spec, "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": "
                                          "[\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_KILL\"}]}") == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_VIOLATION);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "");
    found = stockade_outcome_violation(outcome);
    CHECK(found != NULL && found == stockade_outcome_violation(outcome));
    name = stockade_violation_syscall(found);
    CHECK(name != NULL && strncmp(name, "mkdir", 5) == 0);
    CHECK(stockade_violation_number(found) > 0 && strlen(stockade_violation_arch(found)) > 0);
    CHECK_TEXT(stockade_violation_command(found), "mkdir");
    CHECK(!stockade_violation_main(found) && stockade_violation_pid(found) > 1);
    CHECK(stockade_violation_instruction_pointer(found) > 0);
    index = strcmp(name, "mkdir") == 0 ? 1 : 2;
    CHECK(stockade_violation_arg(found, index) == 0777);
    CHECK(stockade_violation_arg(found, 6) == 0 && stockade_violation_arg(found, 1000) == 0);
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);

    outcome = run_shell(":");
    CHECK(stockade_outcome_violation(outcome) == NULL);
    stockade_outcome_free(outcome);
    CHECK(stockade_outcome_violation(NULL) == NULL);
    CHECK(stockade_violation_syscall(NULL) == NULL && stockade_violation_arch(NULL) == NULL);
    CHECK(stockade_violation_command(NULL) == NULL && stockade_violation_arg(NULL, 0) == 0);
    CHECK(stockade_violation_number(NULL) == 0 && stockade_violation_pid(NULL) == 0);
    CHECK(!stockade_violation_main(NULL) && stockade_violation_instruction_pointer(NULL) == 0);
}

static void enforcement(void)
{
    stockade_outcome *outcome = run_shell(":");
    const stockade_enforcement *one = stockade_outcome_enforcement(outcome, "wall_time");
    size_t index, count = stockade_outcome_enforcement_count(outcome);
    CHECK_TEXT(stockade_enforcement_name(one), "wall_time");
    CHECK(stockade_enforcement_status(one) == STOCKADE_ENFORCED);
    CHECK(strlen(stockade_enforcement_by(one)) > 0);
    CHECK(count > 5);
    for (index = 0; index < count; index++) {
        one = stockade_outcome_enforcement_at(outcome, index);
        CHECK(one == stockade_outcome_enforcement(outcome, stockade_enforcement_name(one)));
        CHECK(stockade_enforcement_status(one) >= STOCKADE_ENFORCED);
        CHECK(stockade_enforcement_status(one) <= STOCKADE_NOT_ENFORCED);
    }
    CHECK(stockade_outcome_enforcement_at(outcome, count) == NULL);
    CHECK(stockade_outcome_enforcement(outcome, "luck") == NULL);
    CHECK(stockade_outcome_enforcement(outcome, NULL) == NULL);
    stockade_outcome_free(outcome);
}

static void json(void)
{
    stockade_outcome *outcome = run_shell("echo hello; exit 7");
    char *text = NULL;
    WORKS(stockade_outcome_to_json(outcome, &text, &failed));
    CHECK(strstr(text, "\"verdict\":\"NONZERO_EXIT\"") != NULL);
    CHECK(strstr(text, "\"stdout\":\"hello\\n\"") != NULL);
    CHECK(strstr(text, "\"returncode\":7") != NULL);
    stockade_string_free(text);
    stockade_outcome_free(outcome);
}

static void nothing(void)
{
    size_t length = 77;
    char *text = NULL;
    CHECK(stockade_outcome_verdict(NULL) == -1 && stockade_outcome_returncode(NULL) == -1);
    CHECK(!stockade_outcome_exit_code(NULL, NULL) && !stockade_outcome_signal(NULL, NULL));
    CHECK(stockade_outcome_limit(NULL) == NULL && stockade_outcome_message(NULL) == NULL);
    CHECK(stockade_outcome_stdout(NULL, &length) == NULL && length == 0);
    CHECK(stockade_outcome_stderr(NULL, NULL) == NULL);
    CHECK(stockade_outcome_stdout_bytes(NULL) == 0 && !stockade_outcome_stderr_truncated(NULL));
    CHECK(stockade_outcome_output_count(NULL) == 0 && stockade_outcome_output(NULL, "x") == NULL);
    CHECK(stockade_output_content(NULL, NULL) == NULL && stockade_output_path(NULL) == NULL);
    CHECK(stockade_outcome_enforcement_count(NULL) == 0);
    CHECK(stockade_enforcement_status(NULL) == STOCKADE_NOT_ENFORCED);
    CHECK(!stockade_outcome_usage(NULL, STOCKADE_USAGE_CPU_TIME, NULL));
    FAILS(stockade_outcome_to_json(NULL, &text, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`outcome` is NULL");
    stockade_outcome_free(NULL);
    stockade_string_free(NULL);
}

int main(void)
{
    CHECK_TEXT(stockade_version(), STOCKADE_VERSION);
    ends();
    exec_fails();
    bytes_both_ways();
    truncates();
    files_in_and_out();
    usage();
    enforcement();
    violation();
    json();
    nothing();
    return 0;
}
