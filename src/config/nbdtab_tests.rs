//! Tests of the lenient reader: the traps of the format.

use super::*;
use crate::config::Boot;
use crate::config::export::Export;
use crate::config::setting::Key;
use proptest::prelude::*;

fn read_text(text: impl AsRef<[u8]>) -> Found {
    read(Path::new("/etc/nbdtab"), text.as_ref())
}

fn problems(found: &Found) -> Vec<String> {
    let lines = found.problems.iter().map(ToString::to_string);
    lines
        .map(|line| line.strip_prefix("/etc/nbdtab:").unwrap().to_owned())
        .collect()
}

/// The one entry of a line that nothing is wrong with.
fn entry(line: &str) -> Export {
    let mut found = read_text(format!("{line}\n"));
    assert_eq!(found.problems, [], "{line}");
    assert_eq!(found.exports.len(), 1, "{line}");
    found.exports.remove(0)
}

/// What is said of a line, and whether there is an entry all the same.
fn said(line: &str) -> (Vec<String>, bool) {
    let found = read_text(format!("{line}\n"));
    (problems(&found), !found.exports.is_empty())
}

#[test]
fn an_entry_names_device_host_and_export() {
    for (line, name, uri) in [
        ("nbd0 h x", "nbd0", "nbd://h/x"),
        ("/dev/nbd7\t10.0.0.5 \t vm1", "nbd7", "nbd://10.0.0.5/vm1"),
        ("nbd0 h x port=10809", "nbd0", "nbd://h/x"),
        ("nbd0 h x port=nbd", "nbd0", "nbd://h/x"),
        ("nbd0 h x port=7", "nbd0", "nbd://h:7/x"),
        ("nbd0 ::1 x", "nbd0", "nbd://[::1]/x"),
        (
            "nbd0 [2001:db8::1] x port=7",
            "nbd0",
            "nbd://[2001:db8::1]:7/x",
        ),
        ("nbd0 fe80::1%eth0 x", "nbd0", "nbd://[fe80::1%25eth0]/x"),
        ("nbd0 /run/s x unix", "nbd0", "nbd+unix:///x?socket=/run/s"),
        (
            "nbd0 h a/b:c@d#e?f%g\"",
            "nbd0",
            "nbd://h/a/b:c@d%23e%3Ff%25g%22",
        ),
        ("nbd0 h /x", "nbd0", "nbd://h//x"),
        ("nbd0 h ä", "nbd0", "nbd://h/%C3%A4"),
        ("nbd0 h ..", "nbd0", "nbd://h/.."),
        ("nbd0 h x _name=disk", "disk", "nbd://h/x"),
    ] {
        let export = entry(line);
        assert_eq!(export.settings.name.as_str(), name, "{line}");
        assert_eq!(export.settings.uri.as_str(), uri, "{line}");
        assert!(export.settings.device.is_some());
        assert_eq!(export.source.to_string(), "/etc/nbdtab:1");
    }
    assert_eq!(entry("nbd0 h a/b#c").settings.uri.export(), "a/b#c");
}

#[test]
fn options_mean_what_nbd_client_means_or_nothing() {
    let plain = entry("nbd0 h x");
    // What these ask for is always so, and what is somebody else's is passed over.
    for options in [
        "persist",
        "swap",
        "no_optgo",
        "timeout=0",
        "_netdev",
        "_x=1,_y",
        "_uri=nbd://h",
        "persist,swap,no_optgo,_late=yes",
        "_path=auto",
    ] {
        let export = entry(&format!("nbd0 h x {options}"));
        assert_eq!(export.settings, plain.settings, "{options}");
        assert_eq!(export.boot, Boot::default(), "{options}");
    }
    let export = entry(
        "nbd0 h x bs=4096,conns=4,dead-timeout=60,_noauto,_nofail=true,_device_timeout=infinity,\
         _identity=01234567-89ab-cdef-fedc-ba9876543210,_read_only,_silence_timeout=7,\
         _settle_time=0,_shutdown_timeout=6,_connect_timeout=8,_io_timeout=500,_resize=live,\
         _path=relay,_root",
    );
    let shown: Vec<_> = Key::ALL
        .iter()
        .map(|key| key.value(&export.settings, &export.boot).unwrap())
        .collect();
    let uuid = "01234567-89ab-cdef-fedc-ba9876543210";
    assert_eq!(
        shown,
        [
            "nbd://h/x",
            "/dev/nbd0",
            "4",
            "relay",
            "true",
            "4096",
            "60",
            "6",
            "7",
            "0",
            "8",
            "500",
            uuid,
            "live",
            "true",
            "true",
            "true",
            "infinity"
        ]
    );
    assert_eq!(export.origins.len(), Key::ALL.len());
    let patient = entry("nbd0 h x _dead_timeout=infinity");
    assert_eq!(patient.settings.dead_timeout.duration(), None);
}

#[test]
fn what_nbd_client_refuses_the_file_for_costs_a_warning() {
    for (line, what) in [
        (" nbd0 h x", "a blank at the beginning of a line"),
        ("\tnbd0 h x", "a blank at the beginning of a line"),
        ("nbd0 h x ", "a blank at the end of a line"),
        ("nbd0 h x persist\t", "a blank at the end of a line"),
        ("nbd0 h x # mine", "a comment behind an entry"),
        ("nbd0 h x persist,#swap", "a comment behind an entry"),
        ("nbd0 h x persist, swap", "a blank between options"),
        ("nbd0 h x persist swap", "a blank between options"),
        ("nbd0 h x persist,,swap", "a comma without an option"),
        ("nbd0 h x persist,", "a comma without an option"),
        (
            "nbd0 h x _identity=UUID=01234567-89ab-cdef-fedc-ba9876543210",
            "an equals sign within a value",
        ),
    ] {
        let (told, used) = said(line);
        assert!(used, "{line:?}: {told:?}");
        assert_eq!(told.len(), 1, "{line:?}: {told:?}");
        let start = "1:1: warning: nbd-client refuses the whole file for ";
        assert!(told[0].starts_with(start), "{line:?}: {told:?}");
        assert!(told[0].contains(what), "{line:?}: {told:?}");
    }
    let (told, _) = said("  ");
    assert!(told[0].contains("a blank at the beginning"), "{told:?}");
}

#[test]
fn comments_and_empty_lines_are_nothing() {
    let found = read_text("# a\n\n#b\nnbd0 h x\n#c");
    assert_eq!((found.problems.len(), found.exports.len()), (0, 1));
    assert_eq!(found.exports[0].source.line, Some(4));
    assert_eq!(read_text(""), Found::default());
    // The last line needs no end, and a # within a word is of the word.
    assert_eq!(
        read_text("nbd0 h x#y").exports[0].settings.uri.export(),
        "x#y"
    );
}

#[test]
fn lines_of_another_system_are_read_and_told_of_once() {
    let found = read_text("\u{feff}# a\r\nnbd0 h x\r\nnbd1 h y persist\r\n");
    assert_eq!(found.exports.len(), 2);
    let told = problems(&found);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("1:4: warning: lines end in CR LF"),
        "{told:?}"
    );
}

#[test]
fn options_that_would_do_harm_cost_a_warning() {
    for (option, at, piece) in [
        ("timeout=30", 10, "merely slow; _silence_timeout=SECONDS"),
        ("dead-timeout=0", 10, "the default of 600 s is used"),
        ("preinit", 10, "asks the server for the size"),
        ("__noauto", 10, "did you mean _noauto?"),
        ("_nofial", 10, "did you mean _nofail?"),
        ("persist,_identiy=x", 18, "did you mean _identity?"),
    ] {
        let (told, used) = said(&format!("nbd0 h x {option}"));
        assert!(used, "{option}");
        assert!(
            told[0].starts_with(&format!("1:{at}: warning: ")),
            "{told:?}"
        );
        assert!(told[0].contains(piece), "{told:?}");
    }
}

#[test]
fn a_wrong_entry_is_not_used() {
    for (line, at, piece) in [
        ("nbd0 h", 1, "an entry is DEVICE HOST EXPORT"),
        ("sda h x", 1, "device \"sda\": give /dev/nbdN"),
        ("nbd0p1 h x", 1, "the whole disk"),
        ("nbd0 h x,persist", 8, "no commas and equals signs"),
        ("nbd0 h,i x", 6, "no commas and equals signs"),
        ("nbd0 h x port=0", 10, "give 1 to 65535"),
        ("nbd0 h x port=", 10, "port needs a value"),
        ("nbd0 h x port", 10, "port needs a value"),
        ("nbd0 h x persist=1", 10, "persist takes no value"),
        ("nbd0 h x conns=17", 10, "from 1 to 16"),
        ("nbd0 h x conns=0x4", 10, "from 1 to 16"),
        ("nbd0 h x bs=513", 10, "block size of 512"),
        ("nbd0 h x timeout=5s", 10, "whole seconds"),
        ("nbd0 h x dead-timeout=-1", 10, "whole seconds"),
        (
            "nbd0 h x dead-timeout=1,_dead_timeout=2",
            25,
            "sets dead_timeout again",
        ),
        ("nbd0 h x swap,swap", 15, "swap is there twice"),
        ("nbd0 h x nofail", 10, "did you mean _nofail?"),
        ("nbd0 h x dead_timeout=1", 10, "did you mean dead-timeout?"),
        ("nbd0 h x persit", 10, "did you mean persist?"),
        ("nbd0 h x colour=red", 10, "put a _ before"),
        ("nbd0 h x _name=a/b", 10, "cannot be a name"),
        ("nbd0 h x _name", 10, "cannot be a name"),
        ("nbd0 h x _name=nbd1", 1, "can be /dev/nbd1 only"),
        ("nbd0 h x _identity=x", 10, "give a UUID"),
        ("nbd0 h x _noauto=maybe", 10, "give true or false"),
        ("nbd0 h x _resize", 10, "_resize needs a value"),
        (
            "nbd0 h x _path=rely",
            10,
            "give \"auto\", \"kernel\" or \"relay\"",
        ),
        ("nbd0 sock x unix", 6, "from the root"),
        ("nbd0 1:2:zz x", 6, "not a URI"),
        ("nbd0 h x tls", 1, "tls asks for TLS"),
        (
            "nbd0 h x certfile=a,keyfile=b",
            1,
            "certfile, keyfile ask for TLS",
        ),
        ("nbd0 h x cacertfile=a", 1, "cacertfile asks for TLS"),
        ("nbd0 h x tlshostname=a", 1, "tlshostname asks for TLS"),
        ("nbd0 h x priority=NORMAL", 1, "priority asks for TLS"),
        ("nbd0 h x _tls=yes", 1, "_tls asks for TLS"),
        ("nbd0 h x tls,tls,tls", 1, "1: tls asks for TLS"),
    ] {
        let (told, used) = said(line);
        assert!(!used, "{line}");
        assert_eq!(told.len(), 1, "{line}: {told:?}");
        assert!(
            told[0].starts_with(&format!("1:{at}: ")),
            "{line}: {told:?}"
        );
        assert!(told[0].contains(piece), "{line}: {told:?}");
        assert!(!told[0].contains("warning"), "{line}: {told:?}");
    }
}

#[test]
fn a_wrong_entry_spoils_no_other_and_all_that_is_wrong_with_it_is_told() {
    let found =
        read_text(b"nbd0 h x\nnbd1 h y conns=0,bs=1,tls\nnbd2\n\xff\nnbd3 h z\n".as_slice());
    let names: Vec<_> = found
        .exports
        .iter()
        .map(|e| e.settings.name.as_str())
        .collect();
    assert_eq!(names, ["nbd0", "nbd3"]);
    let told = problems(&found);
    let places: Vec<_> = told
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(places, ["2:1", "2:10", "2:18", "3:1", "4:1"]);
    let whose = found
        .problems
        .iter()
        .map(|p| p.export.as_ref().map(Name::as_str));
    let whose: Vec<_> = whose.collect();
    assert_eq!(
        whose,
        [Some("nbd1"), Some("nbd1"), Some("nbd1"), None, None]
    );
}

#[test]
fn the_first_line_of_a_device_counts() {
    let found = read_text("nbd0 h x conns=0\n/dev/nbd0 h y\nnbd1 h x _name=a\nnbd2 h x _name=a\n");
    let names: Vec<_> = found
        .exports
        .iter()
        .map(|e| e.settings.name.as_str())
        .collect();
    assert_eq!(names, ["a"]);
    assert_eq!(
        problems(&found)[1..],
        [
            "2:1: warning: /dev/nbd0 is told of in line 1, which counts: this one is not used",
            "4:1: the name \"a\" is taken by line 3: choose another"
        ]
    );
}

#[test]
fn a_hopeless_file_is_told_of_in_a_bounded_time_and_length() {
    let told = problems(&read_text("x\n".repeat(100_000)));
    assert_eq!(told.len(), 101);
    let many: String = (0..5000).map(|n| format!("nbd{n} h x\n")).collect();
    let found = read_text(&many);
    assert_eq!((found.exports.len(), found.problems.len()), (4096, 1));
    for hopeless in [
        "nbd0 h x ".to_owned() + &"a,".repeat(100_000),
        " ".repeat(1_000_000),
    ] {
        assert!(problems(&read_text(&hopeless)).len() <= 101);
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_text(bytes);
    }

    #[test]
    fn nothing_like_an_entry_makes_it_panic(
        text in "((/dev/)?nbd[0-9]|h|::1%|\\[|\\]|unix|port=|_name=|_noauto|tls|timeout=0|=|,|#| |\t|\n|\r|\u{e4}|7){0,40}",
    ) {
        for export in read_text(text).exports {
            prop_assert!(export.settings.device.is_some());
            prop_assert!(!export.settings.uri.is_relative());
        }
    }

    #[test]
    fn an_export_is_called_as_it_stands(name in "[^ \t\r\n,=#\0][^ \t\r\n,=\0]{0,40}") {
        let export = entry(&format!("nbd0 h {name}"));
        prop_assert_eq!(export.settings.uri.export(), name);
    }
}
