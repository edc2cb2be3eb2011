/* Specifications: by setters, by JSON, copied, refused. Prints one with every field set, for tests/capi/programs.rs. */
#include "check.h"

static stockade_spec *full(void)
{
    const char *replaced[] = {"nothing", NULL};
    const char *args[] = {"prog", "one", NULL};
    stockade_spec *spec = stockade_spec_new();
    CHECK(stockade_spec_set_args(spec, replaced) == 0);
    CHECK(stockade_spec_set_args(spec, args) == 0);
    CHECK(stockade_spec_add_arg(spec, "two") == 0);
    CHECK(stockade_spec_set_env(spec, "A", "1") == 0);
    CHECK(stockade_spec_set_env(spec, "B", "2") == 0);
    CHECK(stockade_spec_set_cwd(spec, "/tmp") == 0);
    CHECK(stockade_spec_set_input(spec, "in\377", 3) == 0);
    CHECK(stockade_spec_set_stdin(spec, STOCKADE_STDIO_PIPE) == 0);
    CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_NULL) == 0);
    CHECK(stockade_spec_set_stderr(spec, STOCKADE_STDIO_STDOUT) == 0);
    CHECK(stockade_spec_add_file(spec, "f", "text", 4, 0755) == 0);
    CHECK(stockade_spec_add_output(spec, "out") == 0);
    CHECK(stockade_spec_set_output_file_size(spec, 1 << 20) == 0);
    CHECK(stockade_spec_set_rootfs(spec, "/srv/root") == 0);
    CHECK(stockade_spec_add_rootfs(spec, "/srv/more") == 0);
    CHECK(stockade_spec_set_overlay(spec, STOCKADE_OVERLAY_FUSE) == 0);
    CHECK(stockade_spec_set_image(spec, "python:3.12") == 0);
    CHECK(stockade_spec_set_entrypoint(spec, (const char *const[]){"a", "b", NULL}) == 0);
    CHECK(stockade_spec_set_store(spec, "/srv/images") == 0);
    CHECK(stockade_spec_set_read_only(spec, 1) == 0);
    CHECK(stockade_spec_set_upper_dir(spec, "/var/tmp") == 0);
    CHECK(stockade_spec_add_volume(spec, "/a", "/b", 0) == 0);
    CHECK(stockade_spec_add_volume(spec, "/c", "/d", STOCKADE_VOLUME_WRITABLE) == 0);
    CHECK(stockade_spec_add_tmpfs(spec, "/t", 1 << 20, 100) == 0);
    CHECK(stockade_spec_add_tmpfs(spec, "/u", 0, 0) == 0);
    CHECK(stockade_spec_set_network(spec, STOCKADE_NETWORK_LOOPBACK) == 0);
    CHECK(stockade_spec_set_isolation(spec, STOCKADE_ISOLATION_RESTRICT) == 0);
    CHECK(stockade_spec_set_user(spec, "5:6") == 0);
    CHECK(stockade_spec_set_hostname(spec, "box") == 0);
    CHECK(stockade_spec_set_profile(spec, "strict") == 0);
    CHECK(stockade_spec_set_deterministic(spec, 1) == 0);
    CHECK(stockade_spec_set_uptime(spec, 7 * SECOND) == 0);
    CHECK(stockade_spec_set_cpu_time(spec, 1500000000) == 0);
    CHECK(stockade_spec_set_wall_time(spec, 3 * SECOND) == 0);
    CHECK(stockade_spec_set_memory(spec, 256 << 20) == 0);
    CHECK(stockade_spec_set_swap(spec, 1 << 20) == 0);
    CHECK(stockade_spec_set_pids(spec, 32) == 0);
    CHECK(stockade_spec_set_cpus(spec, 1.5) == 0);
    CHECK(stockade_spec_set_cpu_weight(spec, 50) == 0);
    CHECK(stockade_spec_set_cpu_idle(spec, 1) == 0);
    CHECK(stockade_spec_set_cpuset_cpus(spec, "0-2,4") == 0);
    CHECK(stockade_spec_set_nice(spec, 5) == 0);
    CHECK(stockade_spec_set_stop_signal(spec, 2) == 0);
    CHECK(stockade_spec_set_oom_score_adj(spec, 500) == 0);
    CHECK(stockade_spec_set_oom_group(spec, 0) == 0);
    CHECK(stockade_spec_add_io_read_bps(spec, "/dev/sda", 1 << 20) == 0);
    CHECK(stockade_spec_add_io_read_bps(spec, "8:16", 1 << 21) == 0);
    CHECK(stockade_spec_add_io_write_bps(spec, "/dev/sda", 1 << 22) == 0);
    CHECK(stockade_spec_add_io_read_iops(spec, "/dev/sda", 100) == 0);
    CHECK(stockade_spec_add_io_write_iops(spec, "/dev/sda", 200) == 0);
    CHECK(stockade_spec_set_io_weight(spec, 300) == 0);
    CHECK(stockade_spec_add_hugetlb(spec, 1 << 21, 1 << 26) == 0);
    CHECK(stockade_spec_set_output(spec, 1 << 20) == 0);
    CHECK(stockade_spec_set_output_overflow(spec, STOCKADE_OVERFLOW_DISCARD) == 0);
    CHECK(stockade_spec_set_file_size(spec, 1 << 19) == 0);
    CHECK(stockade_spec_set_open_files(spec, 64) == 0);
    CHECK(stockade_spec_set_stack(spec, 1 << 21) == 0);
    CHECK(stockade_spec_set_disk(spec, 1 << 22) == 0);
    CHECK(stockade_spec_set_inodes(spec, 1000) == 0);
    CHECK(stockade_spec_set_enforce(spec, STOCKADE_ENFORCE_BEST_EFFORT) == 0);
    CHECK(stockade_spec_set_cgroup_parent(spec, "/sys/fs/cgroup/x") == 0);
    return spec;
}

static const char *const full_json =
    "{\"args\": [\"prog\", \"one\", \"two\"], \"env\": {\"A\": \"1\", \"B\": \"2\"}, \"cwd\": \"/tmp\","
    " \"input\": {\"base64\": \"aW7/\"}, \"stdin\": \"pipe\", \"stdout\": \"null\", \"stderr\": \"stdout\","
    " \"files\": {\"f\": {\"content\": \"text\", \"mode\": 493}}, \"outputs\": [\"out\"],"
    " \"output_file_size\": \"1m\", \"rootfs\": [\"/srv/root\", \"/srv/more\"],"
    " \"image\": \"python:3.12\", \"entrypoint\": [\"a\", \"b\"], \"store\": \"/srv/images\","
    " \"overlay\": \"fuse\", \"read_only\": true, \"upper_dir\": \"/var/tmp\", \"volumes\": [\"/a:/b\", \"/c:/d:rw\"],"
    " \"tmpfs\": [\"/t:size=1m,nr_inodes=100\", \"/u\"], \"network\": \"loopback\", \"isolation\": \"restrict\", \"user\": \"5:6\","
    " \"deterministic\": true, \"uptime\": 7,"
    " \"hostname\": \"box\", \"profile\": \"strict\", \"cpu_time\": \"1500ms\", \"wall_time\": 3, \"memory\": \"256m\", \"pids\": 32,"
    " \"swap\": \"1m\", \"cpus\": 1.5, \"cpu_weight\": 50,"
    " \"cpu_idle\": true, \"cpuset_cpus\": \"0-2,4\", \"nice\": 5, \"oom_score_adj\": 500, \"oom_group\": false,"
    " \"stop_signal\": 2,"
    " \"io_read_bps\": [\"/dev/sda:1m\", \"8:16:2m\"], \"io_write_bps\": [\"/dev/sda:4m\"],"
    " \"io_read_iops\": [\"/dev/sda:100\"], \"io_write_iops\": [\"/dev/sda:200\"], \"io_weight\": 300,"
    " \"hugetlb\": [\"2m:64m\"],"
    " \"output\": \"1m\", \"output_overflow\": \"discard\", \"file_size\": \"512k\", \"open_files\": 64,"
    " \"stack\": \"2m\", \"disk\": \"4m\", \"inodes\": 1000, \"enforce\": \"best-effort\","
    " \"cgroup_parent\": \"/sys/fs/cgroup/x\"}";

/* The caller frees the text. */
static char *written(const stockade_spec *spec)
{
    char *json = NULL;
    WORKS(stockade_spec_to_json(spec, &json, &failed));
    return json;
}

static void setters_and_json_agree(void)
{
    stockade_spec *set = full(), *read = NULL;
    char *one = written(set), *other;
    WORKS(stockade_spec_from_json(full_json, &read, &failed));
    other = written(read);
    CHECK_TEXT(one, other);
    puts(one);
    stockade_string_free(one);
    stockade_string_free(other);
    stockade_spec_free(set);
    stockade_spec_free(read);
}

static void a_copy_is_its_own(void)
{
    stockade_spec *spec = full(), *copy = stockade_spec_clone(spec);
    char *before = written(spec), *after;
    CHECK(stockade_spec_set_memory(copy, 1 << 20) == 0);
    after = written(spec);
    CHECK_TEXT(after, before);
    stockade_spec_free(spec);
    stockade_string_free(after);
    after = written(copy);
    CHECK(strcmp(before, after) != 0);
    stockade_string_free(before);
    stockade_string_free(after);
    stockade_spec_free(copy);
    CHECK(stockade_spec_clone(NULL) == NULL);
}

static void json_is_checked(void)
{
    stockade_spec *spec = (stockade_spec *)&spec;
    FAILS(stockade_spec_from_json("{\"memroy\": 1}", &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "memroy");
    CHECK(spec == NULL);
    FAILS(stockade_spec_from_json("{\"memory\": \"1x\"}", &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "1x");
    FAILS(stockade_spec_from_json("{\"args\": \"ls\"}", &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "expected a sequence");
    FAILS(stockade_spec_from_json("", &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "specification");
    FAILS(stockade_spec_from_json("\"\377\"", &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "not UTF-8");
    FAILS(stockade_spec_from_json(NULL, &spec, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`json` is NULL");
    FAILS(stockade_spec_from_json("{}", NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`spec` is NULL");
}

/* A refused setter says so, and the specification keeps the first refusal for whoever did not look. */
static void refusals_are_kept(void)
{
    stockade_spec *spec = stockade_spec_new(), *copy;
    stockade_outcome *outcome = (stockade_outcome *)&outcome;
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    char *json = NULL;
    CHECK(stockade_spec_add_arg(spec, "/bin/true") == 0);
    CHECK(stockade_spec_set_network(spec, 99) == STOCKADE_ERROR_INVALID_ARGUMENT);
    CHECK(stockade_spec_set_cwd(spec, NULL) == STOCKADE_ERROR_INVALID_ARGUMENT);
    CHECK(stockade_spec_set_network(spec, STOCKADE_NETWORK_NONE) == 0);
    copy = stockade_spec_clone(spec);
    FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "network: 99");
    CHECK(outcome == NULL);
    FAILS(stockade_spec_spawn(spec, &process, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "network: 99");
    FAILS(stockade_sandbox_start(spec, &sandbox, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "network: 99");
    FAILS(stockade_spec_to_json(copy, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "network: 99");
    stockade_spec_free(spec);
    stockade_spec_free(copy);
}

#define REFUSES(call, has)                                                                      \
    do {                                                                                        \
        stockade_spec *spec = stockade_spec_new();                                              \
        char *json = NULL;                                                                      \
        CHECK((call) == STOCKADE_ERROR_INVALID_ARGUMENT);                                       \
        FAILS(stockade_spec_to_json(spec, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, has); \
        stockade_spec_free(spec);                                                               \
    } while (0)

static void bad_values(void)
{
    REFUSES(stockade_spec_set_stdin(spec, STOCKADE_STDIO_CAPTURE), "stdin: 2");
    REFUSES(stockade_spec_set_stdout(spec, STOCKADE_STDIO_STDOUT), "stdout: 3");
    REFUSES(stockade_spec_set_stderr(spec, -1), "stderr: -1");
    REFUSES(stockade_spec_set_stdin_fd(spec, -1), "not a descriptor");
    REFUSES(stockade_spec_set_output_overflow(spec, 2), "output_overflow: 2");
    REFUSES(stockade_spec_set_enforce(spec, 2), "enforce: 2");
    REFUSES(stockade_spec_add_volume(spec, "/a", "/b", 6), "flags");
    REFUSES(stockade_spec_add_volume(spec, "a", "/b", 0), "`a` is not an absolute path");
    REFUSES(stockade_spec_add_tmpfs(spec, "t", 0, 0), "`t` is not an absolute path");
    REFUSES(stockade_spec_set_cwd(spec, "\377"), "not UTF-8");
    REFUSES(stockade_spec_set_args(spec, NULL), "`args` is NULL");
    REFUSES(stockade_spec_add_arg(spec, NULL), "`arg` is NULL");
    REFUSES(stockade_spec_set_env(spec, "A", NULL), "`value` is NULL");
    REFUSES(stockade_spec_set_input(spec, NULL, 1), "`data` is NULL");
    REFUSES(stockade_spec_add_file(spec, "f", NULL, 1, 0), "`data` is NULL");
    REFUSES(stockade_spec_add_file(spec, NULL, "", 0, 0), "`path` is NULL");
    REFUSES(stockade_spec_set_rootfs(spec, NULL), "`rootfs` is NULL");
    REFUSES(stockade_spec_add_rootfs(spec, NULL), "`rootfs` is NULL");
    REFUSES(stockade_spec_set_overlay(spec, 9), "STOCKADE_OVERLAY_AUTO");
}

static void descriptors_have_no_json(void)
{
    stockade_spec *spec = stockade_spec_new();
    char *json = NULL;
    CHECK(stockade_spec_set_stdout_fd(spec, 1) == 0);
    FAILS(stockade_spec_to_json(spec, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "specification");
    stockade_spec_free(spec);
}

static void nothing(void)
{
    CHECK(stockade_spec_set_memory(NULL, 1) == STOCKADE_ERROR_INVALID_ARGUMENT);
    CHECK(stockade_spec_add_arg(NULL, "x") == STOCKADE_ERROR_INVALID_ARGUMENT);
    CHECK(stockade_spec_set_network(NULL, 0) == STOCKADE_ERROR_INVALID_ARGUMENT);
    stockade_spec_free(NULL);
}

static void units(void)
{
    uint64_t number = 77;
    WORKS(stockade_parse_size("256m", &number, &failed));
    CHECK(number == 256 << 20);
    WORKS(stockade_parse_duration("1.5s", &number, &failed));
    CHECK(number == 1500000000);
    FAILS(stockade_parse_size("1.5m", &number, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "1.5m");
    CHECK(number == 0);
    FAILS(stockade_parse_duration("5", &number, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "5");
    FAILS(stockade_parse_duration("9000000h", &number, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "64 bits");
    FAILS(stockade_parse_size(NULL, &number, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`text` is NULL");
    CHECK(stockade_parse_size("1", NULL, NULL) == STOCKADE_ERROR_INVALID_ARGUMENT);
}

static void doctor(void)
{
    char *json = NULL;
    WORKS(stockade_doctor(&json, &failed));
    CHECK(json[0] == '[' && strstr(json, "\"status\":\"") != NULL);
    stockade_string_free(json);
}

int main(void)
{
    setters_and_json_agree();
    a_copy_is_its_own();
    json_is_checked();
    refusals_are_kept();
    bad_values();
    descriptors_have_no_json();
    nothing();
    units();
    doctor();
    return 0;
}
