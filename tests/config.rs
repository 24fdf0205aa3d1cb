//! The configuration as its user meets it: what `config check`, `config show` and
//! `attach NAME` say, word for word.

#![allow(clippy::unwrap_used, reason = "it is all tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

struct System(TempDir);

/// What it printed, with the folder that stands for / left out.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

impl System {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn nbdctl(&self, args: &[&str]) -> Ran {
        let root: &Path = self.0.path();
        let output = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
            .arg("--config-root")
            .arg(root)
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(root.to_str().unwrap(), "")
        };
        Ran {
            status: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn json(&self, args: &[&str]) -> (i32, Value) {
        let ran = self.nbdctl(args);
        assert_eq!(ran.stderr, "");
        (ran.status, serde_json::from_str(&ran.stdout).unwrap())
    }
}

fn ran(status: i32, stdout: &str, stderr: &str) -> Ran {
    Ran {
        status,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

const VM1: (&str, &str) = (
    "etc/nbdctl/vm1.toml",
    "# The first machine.\nuri = \"nbd://10.0.0.5/vm1\"\ndead_timeout = \"infinity\"\nconnections = 2\n\
     nofail = true\n",
);
const BAD: (&str, &str) = (
    "etc/nbdctl/bad.toml",
    "uri = nbd://h/x\nconections = 4\ntls.verify = true\nio_timeout = 5\n",
);
const TAB: (&str, &str) = (
    "etc/nbdtab",
    "# DEVICE HOST EXPORT\nnbd0 10.0.0.5 vm1 timeout=30,_name=vm1\n\
     nbd1 fe80::1%eth0 data bs=4096,port=10810,_noauto # slow\nnbd2 h x tls\nnbd3 h x persit\n",
);

#[test]
fn check_tells_all_that_is_wrong_at_once() {
    let system = System::new(&[VM1, BAD, TAB]);
    let told = "\
/etc/nbdctl/bad.toml:1:7: no TOML: uri: write it in quotes
/etc/nbdctl/bad.toml:2:1: unknown key \"conections\": did you mean \"connections\"?
/etc/nbdctl/bad.toml:3:1: tls asks for TLS, which this version of nbdctl cannot speak yet, and it will not fall back to plaintext: remove it if plaintext will do
/etc/nbdctl/bad.toml:4:14: io_timeout = 5: give a whole number of ms from 100 to 3600000
/etc/nbdtab:2:1: warning: \"vm1\" is not used: /etc/nbdctl/vm1.toml has that name, and comes first
/etc/nbdtab:2:19: warning: timeout=30 is not used: it would cut off a server that is merely slow; _silence_timeout=SECONDS cuts off one that is silent, and dead-timeout=SECONDS is how long I/O waits for it to return
/etc/nbdtab:3:1: warning: nbd-client refuses the whole file for a comment behind an entry: nbdctl reads it all the same
/etc/nbdtab:4:1: tls asks for TLS, which this version of nbdctl cannot speak yet, and it will not fall back to plaintext: the entry is not used
/etc/nbdtab:5:10: unknown option \"persit\": did you mean persist?
2 exports, 6 errors, 3 warnings
";
    assert_eq!(system.nbdctl(&["config", "check"]), ran(1, told, ""));
    let (status, told) = system.json(&["config", "check", "--json"]);
    assert_eq!(status, 1);
    assert_eq!(told["exports"], json!(["nbd1", "vm1"]));
    assert_eq!(told["problems"].as_array().unwrap().len(), 9);
    assert_eq!(
        told["problems"][1],
        json!({
            "path": "/etc/nbdctl/bad.toml",
            "line": 2,
            "column": 1,
            "severity": "error",
            "export": "bad",
            "text": "unknown key \"conections\": did you mean \"connections\"?",
        })
    );
}

#[test]
fn check_is_content_with_warnings_and_with_nothing() {
    let system = System::new(&[]);
    let nothing = ran(0, "0 exports, 0 errors, 0 warnings\n", "");
    assert_eq!(system.nbdctl(&["config", "check"]), nothing);
    let system = System::new(&[("etc/nbdtab", "nbd0 h x \n")]);
    let told = "\
/etc/nbdtab:1:1: warning: nbd-client refuses the whole file for a blank at the end of a line: nbdctl reads it all the same
1 export, 0 errors, 1 warning
";
    assert_eq!(system.nbdctl(&["config", "check"]), ran(0, told, ""));
    let (status, told) = system.json(&["config", "check", "--json"]);
    assert_eq!((status, &told["exports"]), (0, &json!(["nbd0"])));
}

#[test]
fn show_tells_what_will_be_done_and_where_it_comes_from() {
    let system = System::new(&[VM1, BAD, TAB]);
    let told = "\
name              vm1                                   /etc/nbdctl/vm1.toml
unit              nbdctl@vm1.service
uri               nbd://10.0.0.5/vm1                    /etc/nbdctl/vm1.toml:2
device            the first free one                    default
connections       2                                     /etc/nbdctl/vm1.toml:4
path              auto                                  default
read_only         false                                 default
block_size        512, or the server's minimum          default
dead_timeout      infinity                              /etc/nbdctl/vm1.toml:3
shutdown_timeout  5 s                                   default
silence_timeout   30 s                                  default
settle_time       5 s                                   default
connect_timeout   10 s                                  default
io_timeout        30000 ms                              default
identity          not looked at                         default
resize            next-attach                           default
root              false                                 default
noauto            false                                 default
nofail            true                                  /etc/nbdctl/vm1.toml:5
device_timeout    systemd's own                         default
";
    assert_eq!(system.nbdctl(&["config", "show", "vm1"]), ran(0, told, ""));

    let shown = system.nbdctl(&["config", "show", "nbd1"]);
    assert_eq!(shown.status, 0);
    for line in [
        "name              nbd1                                  /etc/nbdtab:3\n",
        "uri               nbd://[fe80::1%25eth0]:10810/data     /etc/nbdtab:3\n",
        "device            /dev/nbd1                             /etc/nbdtab:3\n",
        "block_size        4096 bytes                            /etc/nbdtab:3\n",
        "noauto            true                                  /etc/nbdtab:3\n",
    ] {
        assert!(shown.stdout.contains(line), "{}", shown.stdout);
    }

    let (status, told) = system.json(&["config", "show", "vm1", "--json"]);
    let from = |line| format!("/etc/nbdctl/vm1.toml:{line}");
    assert_eq!(status, 0);
    assert_eq!(told["unit"], "nbdctl@vm1.service");
    let settings = &told["settings"];
    for (key, value, from) in [
        ("connections", json!(2), from(4)),
        ("dead_timeout", json!("infinity"), from(3)),
        ("nofail", json!(true), from(5)),
        ("io_timeout", json!(null), "default".to_owned()),
        ("settle_time", json!(5), "default".to_owned()),
    ] {
        assert_eq!(
            settings[key],
            json!({ "value": value, "from": from }),
            "{key}"
        );
    }
}

#[test]
fn what_is_wrong_or_missing_is_told_on_standard_error() {
    let system = System::new(&[VM1, BAD, TAB]);
    let missing = "nbdctl: no export is called \"vm2\": there is no /etc/nbdctl/vm2.toml and no \
                   /run/nbdctl/vm2.toml, and /etc/nbdtab has no such entry: write one, or give a \
                   URI (nbd://HOST/EXPORT)\n";
    for verb in [["config", "show"].as_slice(), &["attach"]] {
        let run = |name| system.nbdctl(&[verb, &[name]].concat());
        assert_eq!(run("vm2"), ran(3, "", missing));
        let bad = run("bad");
        assert_eq!((bad.status, bad.stderr.lines().count()), (1, 4), "{bad:?}");
        let tls = run("nbd2");
        assert_eq!(tls.status, 1, "{tls:?}");
        assert!(
            tls.stderr
                .starts_with("nbdctl: /etc/nbdtab:4:1: tls asks for TLS")
        );
    }
    let ran = system.nbdctl(&["config", "show", "a b"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

#[test]
fn attach_takes_a_name_with_options_that_go_with_it() {
    let system = System::new(&[VM1, TAB]);
    for (args, piece) in [
        (["vm1", "--name=x"], "has its name from the configuration"),
        (["nbd1", "--device=nbd5"], "can be /dev/nbd1 only"),
        (["vm1", "--settle-time=3601"], "from 0 to 3600"),
        (["vm1", "--tls"], "cannot speak TLS"),
        (["nbd://h/x", "--name=nbd1"], "that is a device"),
        // As before: what has a slash is a URI, or nothing.
        (["vm1/x", "--json"], "not a URI"),
    ] {
        let ran = system.nbdctl(&[&["attach"], args.as_slice()].concat());
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains(piece), "{ran:?}");
    }
}
