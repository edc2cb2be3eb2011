//! Debian's `docker-registry` on loopback, with TLS and passwords, filled by skopeo.

use super::*;
use crate::images::{command, tree};
use crate::support::{skip, slowness};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use stockade::image::{Format, Target};

/// The password as bcrypt has it, since `htpasswd` may not be here.
const HTPASSWD: &str = "me:$2y$04$NhNcYxIUiZCRRGEVHuT/muPEUE1kkD/nTPa4ee88RWO43Q2WdEmBG\n";

/// A registry that runs.
pub struct Registry {
    child: Child,
    pub address: String,
    pub ca: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why the tests with a real registry cannot be run here.
pub fn lacking() -> Option<String> {
    let there = |program: &str| {
        let run = Command::new(program).arg("--version").output();
        run.is_ok()
    };
    let programs = ["docker-registry", "skopeo", "openssl"];
    let lacks = programs.into_iter().find(|program| !there(program));
    lacks.map(|program| format!("`{program}` is not installed"))
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Registry {
    /// Starts one, which takes the password if `auth`.
    pub fn start(place: &Place, auth: bool) -> Registry {
        certificates(place);
        let port = free_port();
        let at = |name: &str| place.at(name).display().to_string();
        std::fs::write(place.at("htpasswd"), HTPASSWD).unwrap();
        let who = match auth {
            true => format!(
                "auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
                at("htpasswd")
            ),
            false => String::new(),
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\", tls: {{certificate: {}, key: {}}}}}\n{who}",
            at("registry"),
            at("server.pem"),
            at("server.key"),
        );
        std::fs::write(place.at("registry.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("registry.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.at("registry.log")).unwrap())
            .spawn()
            .unwrap();
        let registry = Registry {
            child,
            address: format!("127.0.0.1:{port}"),
            ca: place.at("ca.pem"),
        };
        let up = || std::net::TcpStream::connect(&registry.address).is_ok();
        let log = || std::fs::read_to_string(place.at("registry.log")).unwrap();
        assert!(
            crate::support::wait_until(Duration::from_secs(10) * slowness(), up),
            "{}",
            log()
        );
        registry
    }

    /// Puts an image of an OCI layout into it.
    pub fn push(&self, layout: &str, name: &str, more: &[&str]) {
        run(Command::new("skopeo")
            .args([
                "copy",
                "--dest-tls-verify=false",
                "--dest-creds",
                &format!("me:{SECRET}"),
            ])
            .args(more)
            .args([
                format!("oci:{layout}"),
                format!("docker://{}/{name}", self.address),
            ]));
    }

    pub fn options(&self) -> Pull<'static> {
        options().ca_file(&self.ca).credentials("me", SECRET)
    }
}

/// A port that nobody listens on, and that no other test is given by the system before the registry has it.
fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() * 97 + next * 13) % 10_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn certificates(place: &Place) {
    let config = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=tests\n\
        [ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n\
        [server]\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(place.at("openssl.cnf"), config).unwrap();
    let openssl = |args: &str| {
        run(Command::new("openssl")
            .args(args.split(' '))
            .current_dir(place.at("")));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -config openssl.cnf -extensions ca",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.req -config openssl.cnf");
    openssl(
        "x509 -req -in server.req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem -extfile openssl.cnf \
         -extensions server",
    );
}

/// A store with an image, and that as a layout for skopeo.
fn layout(place: &Place, image: &str) -> (Store, String) {
    let store = place.store("source");
    two_layers(&store, place, 50);
    let path = place.at("layout");
    store
        .save(
            &[image],
            Format::OciDirectory,
            Target::Path(path.clone()),
            None,
        )
        .unwrap();
    (store, format!("{}:1", path.display()))
}

#[test]
fn what_skopeo_pushed_is_pulled() {
    if let Some(why) = lacking() {
        skip!("{why}");
    }
    let place = Place::new();
    let registry = Registry::start(&place, true);
    let (source, layout) = layout(&place, "two:1");
    let own = source.resolve("two:1").unwrap();
    // As it is; as Docker's own formats; and its layers compressed by gzip and by zstd.
    for (name, more) in [
        ("team/oci:1", &["--format", "oci"][..]),
        ("docker:1", &["--format", "v2s2"]),
        (
            "zstd:1",
            &["--format", "oci", "--dest-compress-format", "zstd"],
        ),
        (
            "gzip:1",
            &["--dest-compress", "--dest-compress-format", "gzip"],
        ),
    ] {
        registry.push(&layout, name, more);
        let store = place.store(&name.replace('/', "-"));
        let whole = format!("{}/{name}", registry.address);
        let image = pull(&store, &whole, registry.options()).unwrap();
        assert_eq!(image.names, std::slice::from_ref(&whole));
        let there = store.resolve(&whole).unwrap();
        assert_eq!(there.layers.len(), own.layers.len());
        for (own, there) in own.layers.iter().zip(&there.layers) {
            assert_eq!(tree(own), tree(there), "{name}");
        }
        assert_eq!(there.config.config, own.config.config);
        assert_whole(&store, 1);
        // By its digest, from which everything is there.
        let by_digest = format!("{}@{}", whole.strip_suffix(":1").unwrap(), image.digest);
        assert_eq!(
            pull(&store, &by_digest, registry.options()).unwrap().id,
            image.id
        );
        assert_whole(&store, 1);
    }
}

#[test]
fn who_is_not_known_gets_nothing() {
    if let Some(why) = lacking() {
        skip!("{why}");
    }
    let place = Place::new();
    let registry = Registry::start(&place, true);
    let (_, layout) = layout(&place, "one:1");
    registry.push(&layout, "one:1", &[]);
    let store = place.store("store");
    let name = format!("{}/one:1", registry.address);
    let auth =
        |options: Pull<'_>| assert_fails(pull(&store, &name, options), ErrorKind::Registry, "auth");
    assert!(auth(options().ca_file(&registry.ca)).contains("podman login"));
    assert!(
        auth(options().ca_file(&registry.ca).credentials("me", "wrong"))
            .contains("refuses the credentials")
    );
    assert!(auth(options().ca_file(&registry.ca).credentials("you", SECRET)).contains("refuses"));
    let why = assert_fails(
        pull(&store, &name, options().credentials("me", SECRET)),
        ErrorKind::Registry,
        "tls",
    );
    assert!(why.contains("ca_file"), "{why}");
    // Its certificate is for another name.
    let port = registry.address.split(':').next_back().unwrap();
    let other = format!("127.0.0.2:{port}/one:1");
    let error = pull(&store, &other, registry.options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
    let missing = format!("{}/none:1", registry.address);
    assert_fails(
        pull(&store, &missing, registry.options()),
        ErrorKind::NotFound,
        "",
    );
    assert_whole(&store, 0);
    let anybody = options().tls_verify(false).credentials("me", SECRET);
    pull(&store, &name, anybody).unwrap();
    assert_whole(&store, 1);
}

/// The command, with an environment that holds nothing.
fn stockade(place: &Place, args: &[&str], environment: &[(&str, String)]) -> Output {
    let mut stockade = command().unwrap();
    stockade
        .args(args)
        .arg("--store")
        .arg(place.at("by-command"));
    stockade
        .env_clear()
        .env("HOME", place.at("home"))
        .stdin(Stdio::null());
    stockade.envs(environment.iter().map(|(name, value)| (name, value)));
    stockade.output().unwrap()
}

/// Where docker and podman keep credentials, they are found; and the command's flags, and its environment, do what they
/// say.
#[test]
fn the_command_finds_what_others_left() {
    if let Some(why) = lacking() {
        skip!("{why}");
    }
    if command().is_none() {
        skip!("the program `stockade` is not here");
    }
    let place = Place::new();
    let registry = Registry::start(&place, true);
    let (_, layout) = layout(&place, "one:1");
    registry.push(&layout, "one:1", &[]);
    let name = format!("{}/one:1", registry.address);
    let auth = place.at("auth.json").display().to_string();
    // As the tools themselves write it.
    let login = [
        "login",
        "--tls-verify=false",
        "--authfile",
        &auth,
        "-u",
        "me",
        "-p",
        SECRET,
        &registry.address,
    ];
    run(Command::new("skopeo").args(login));
    let ca = ("SSL_CERT_FILE", registry.ca.display().to_string());
    for dir in ["home/.docker", "run/containers", "empty"] {
        std::fs::create_dir_all(place.at(dir)).unwrap();
    }
    let fails = |environment: &[(&str, String)], why: &str| {
        let output = stockade(&place, &["pull", &name], environment);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert!(
            text.contains(why) && text.lines().count() == 1 && !text.contains(SECRET),
            "{text}"
        );
    };
    fails(&[], "SSL_CERT_FILE");
    fails(std::slice::from_ref(&ca), "podman login");
    fails(
        &[
            ca.clone(),
            ("REGISTRY_AUTH_FILE", place.at("none").display().to_string()),
        ],
        "none",
    );
    std::fs::write(
        place.at("home/.docker/config.json"),
        r#"{"credsStore": "desktop"}"#,
    )
    .unwrap();
    fails(std::slice::from_ref(&ca), "`desktop`, which is not run");

    let works = |args: &[&str], environment: &[(&str, String)]| {
        let output = stockade(&place, &[&["pull"], args, &[&name]].concat(), environment);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(
            !text.contains('\x1b'),
            "no bar where there is no terminal: {text}"
        );
        let id = String::from_utf8(output.stdout).unwrap();
        assert!(id.lines().last().unwrap().starts_with("sha256:"), "{id}");
    };
    let named = |name: &'static str, dir: &str| (name, place.at(dir).display().to_string());
    works(&[], &[ca.clone(), ("REGISTRY_AUTH_FILE", auth.clone())]);
    works(&["--authfile", &auth, "--ca-file", &ca.1, "-q"], &[]);
    std::fs::copy(&auth, place.at("run/containers/auth.json")).unwrap();
    works(&[], &[ca.clone(), named("XDG_RUNTIME_DIR", "run")]);
    std::fs::copy(&auth, place.at("home/.docker/config.json")).unwrap();
    works(&["--tls-verify=false"], &[]);
    std::fs::remove_file(place.at("home/.docker/config.json")).unwrap();
    std::fs::copy(&auth, place.at("empty/config.json")).unwrap();
    works(&[], &[ca.clone(), named("DOCKER_CONFIG", "empty")]);

    // The password on standard input; and nowhere else, where others would see it.
    let mut child = command().unwrap();
    child
        .args([
            "pull",
            "-u",
            "me",
            "--password-stdin",
            "--ca-file",
            &ca.1,
            "--store",
        ])
        .arg(place.at("by-stdin"));
    let mut child = child
        .arg(&name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{SECRET}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.starts_with(b"Digest: sha256:"),
        "{output:?}"
    );
}
