//! Tests of the strict reader: each problem with its place and its remedy.

use super::*;
use proptest::prelude::*;

fn read_text(text: impl AsRef<[u8]>) -> Found {
    let path = Path::new("/etc/nbdctl/vm1.toml");
    read(path, Kind::Etc, &"vm1".parse().unwrap(), text.as_ref())
}

fn problems(text: impl AsRef<[u8]>) -> Vec<String> {
    let found = read_text(text);
    assert!(found.exports.is_empty());
    let prefix = "/etc/nbdctl/vm1.toml:";
    let lines = found.problems.iter().map(ToString::to_string);
    lines
        .map(|line| line.strip_prefix(prefix).unwrap().to_owned())
        .collect()
}

#[test]
fn the_root_waits_for_ever_unless_a_time_is_set() {
    for (text, seconds) in [
        ("root = true", None),
        ("root = true\ndead_timeout = 600", Some(600)),
        ("root = false", Some(600)),
        ("dead_timeout = 7\nroot = true", Some(7)),
    ] {
        let found = read_text(format!("uri = \"nbd://h/x\"\n{text}\n"));
        let timeout = found.exports[0].settings.dead_timeout.duration();
        assert_eq!(timeout.map(|it| it.as_secs()), seconds, "{text}");
    }
}

#[test]
fn the_root_is_on_no_relay() {
    let told = problems("uri = \"nbd://h/x\"\nroot = true\npath = \"relay\"\n");
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("3:8: path: a relay cannot serve /"),
        "{told:?}"
    );
    assert!(told[0].contains("leave path out, or choose \"kernel\""));
    for other in ["root = true\npath = \"kernel\"", "path = \"relay\""] {
        let found = read_text(format!("uri = \"nbd://h/x\"\n{other}\n"));
        assert_eq!(found.problems, [], "{other}");
    }
}

#[test]
fn a_whole_file_becomes_settings_with_their_origins() {
    let found = read_text(
        "# the first\nuri = \"nbd://h/vm1\"\ndevice = '/dev/nbd7'\nconnections = 4\npath = \"kernel\"\n\
         read_only = true\nblock_size = 4096\ndead_timeout = \"infinity\"\nshutdown_timeout = 6\n\
         silence_timeout = 7\nsettle_time = 0\nconnect_timeout = 0x10\nio_timeout = 2_000\n\
         identity = \"UUID=01234567-89AB-CDEF-FEDC-BA9876543210\"\nresize = \"live\"\nroot = true\nnoauto = true\n\
         nofail = true\ndevice_timeout = 90\n",
    );
    assert_eq!(found.problems, []);
    let export = &found.exports[0];
    let shown: Vec<_> = Key::ALL
        .iter()
        .map(|key| key.value(&export.settings, &export.boot).unwrap())
        .collect();
    let uuid = "01234567-89ab-cdef-fedc-ba9876543210";
    assert_eq!(
        shown,
        [
            "nbd://h/vm1",
            "/dev/nbd7",
            "4",
            "kernel",
            "true",
            "4096",
            "infinity",
            "6",
            "7",
            "0",
            "16",
            "2000",
            uuid,
            "live",
            "true",
            "true",
            "true",
            "90"
        ]
    );
    assert_eq!(export.settings.name.as_str(), "vm1");
    assert_eq!(
        export.origins[&Key::Uri].to_string(),
        "/etc/nbdctl/vm1.toml:2"
    );
    assert_eq!(export.origins[&Key::DeviceTimeout].line, Some(19));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place_and_remedy() {
    let text = "uri = \"nbds://h/x\"\ndead-timeout = 5\nconnections = 17\n  read_only = \"yes\"\n\
                path = \"rely\"\nio_timeout = 99\ncolour = 1\nidentity = 7\n";
    assert_eq!(
        problems(text),
        [
            "1:7: uri = \"nbds://h/x\": nbds:// asks for TLS, which this version of nbdctl cannot \
             speak yet: it will not fall back to plaintext",
            "2:1: unknown key \"dead-timeout\": did you mean \"dead_timeout\"?",
            "3:15: connections = 17: give a number of connections from 1 to 16",
            "4:15: read_only = \"yes\": write true or false, without quotes",
            "5:8: path = \"rely\": give \"auto\", \"kernel\" or \"relay\"",
            "6:14: io_timeout = 99: give a whole number of ms from 100 to 3600000",
            "7:1: unknown key \"colour\": the keys are uri, device, connections, path, read_only, \
             block_size, dead_timeout, shutdown_timeout, silence_timeout, settle_time, \
             connect_timeout, io_timeout, identity, resize, root, noauto, nofail, device_timeout",
            "8:12: identity = 7: write it in quotes",
        ]
    );
}

#[test]
fn a_file_without_a_uri_is_told_what_to_add() {
    for text in ["", "# nothing\n", "read_only = true\n"] {
        assert_eq!(
            problems(text),
            [" no uri: add a line like uri = \"nbd://HOST/EXPORT\""],
            "{text}"
        );
    }
}

#[test]
fn every_way_to_ask_for_tls_is_refused_by_name() {
    for (text, name) in [
        ("tls = true", "tls"),
        ("tls.hostname = \"h\"", "tls"),
        ("[tls]\nverify = false", "tls"),
        ("[[tls]]", "tls"),
        ("tls_hostname = \"h\"", "tls_hostname"),
        ("TLS = false", "TLS"),
    ] {
        let told = problems(format!("uri = \"nbd://h/x\"\n{text}\n"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains(&format!(": {name} asks for TLS")),
            "{told:?}"
        );
    }
}

#[test]
fn what_is_no_toml_is_told_once_a_line_and_hides_nothing_else() {
    let told = problems("uri = nbd://h/x\nread_only = yes\ndevce = 1\nresize = \"live\nx\"\n");
    let places: Vec<_> = told.iter().map(|line| &line[..2]).collect();
    assert_eq!(places, ["1:", "2:", "3:", "4:", "5:"], "{told:#?}");
    assert!(
        told[0].ends_with(": no TOML: uri: write it in quotes"),
        "{told:#?}"
    );
    assert!(
        told[1].ends_with(": write true or false, without quotes"),
        "{told:#?}"
    );
    let told = problems("uri = \"nbd://h/x\"\nuri = \"nbd://h/y\"\n");
    assert_eq!(told, ["2:1: no TOML: duplicate key"]);
}

#[test]
fn numbers_out_of_this_world_are_no_settings() {
    for number in [
        "-1",
        "0",
        "99999999999999999999999",
        "1.0",
        "inf",
        "\"5\"",
        "[5]",
        "{}",
    ] {
        let told = problems(format!("uri = \"nbd://h/x\"\ndead_timeout = {number}\n"));
        assert_eq!(told.len(), 1, "{number}: {told:?}");
        assert!(told[0].starts_with("2:16: "), "{number}: {told:?}");
    }
}

#[test]
fn a_socket_s_path_begins_at_the_root() {
    let told = problems("uri = \"nbd+unix:///x?socket=sock\"\n");
    assert!(told[0].contains("from the root"), "{told:?}");
}

#[test]
fn a_device_s_name_goes_with_that_device_only() {
    let read = |text: &str| {
        let path = Path::new("/etc/nbdctl/nbd7.toml");
        read(path, Kind::Etc, &Name::of_device(7), text.as_bytes())
    };
    let found = read("uri = \"nbd://h/x\"");
    let export = &found.exports[0];
    assert_eq!(export.settings.device, Some(7));
    assert_eq!(
        export.origins[&Key::Device].to_string(),
        "/etc/nbdctl/nbd7.toml"
    );
    let found = read("uri = \"nbd://h/x\"\ndevice = \"nbd8\"\n");
    assert!(found.exports.is_empty());
    assert!(
        found.problems[0]
            .to_string()
            .starts_with("/etc/nbdctl/nbd7.toml:2:10: device: ")
    );
}

#[test]
fn what_is_no_utf_8_has_a_place() {
    assert_eq!(
        problems(b"# \xc3\xa4\nuri \xff"),
        ["2:5: what is no UTF-8: write it in UTF-8"]
    );
}

#[test]
fn a_hopeless_file_is_told_of_in_a_bounded_time_and_length() {
    let many: String = (0..60_000).map(|n| format!("key{n} = 1\n")).collect();
    let told = problems(&many);
    assert_eq!(told.len(), 101);
    assert_eq!(
        told.last().unwrap(),
        " 59901 more problems: is this the right file?"
    );
    for hopeless in [
        "[".repeat(200_000),
        "=\n".repeat(100_000),
        "a.".repeat(100_000),
        "\"".repeat(1_000_000),
    ] {
        assert!(!problems(&hopeless).is_empty());
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let values = (
        "nbd://[a-z]{1,9}/[a-zA-Z0-9.~%20]{0,9}",
        proptest::option::of(0u32..1000),
        1u32..17,
        any::<bool>(),
        proptest::option::of(0u32..4),
        proptest::option::of(1u32..),
        (1u32..3600, 1u32..86_400, 0u32..3600, 1u32..3600),
        proptest::option::of(100u32..3_600_000),
        any::<[bool; 2]>(),
    );
    values.prop_filter_map("no URI", |values| {
        let (uri, device, connections, read_only, block, dead, times, io, [live, root]) = values;
        let mut settings = Settings::new(crate::uri::Uri::parse(&uri).ok()?);
        settings.name = "vm1".parse().unwrap();
        let mut boot = Boot::default();
        let (shutdown, silence, settle, connect) = times;
        let dead = dead.map_or_else(|| "infinity".to_owned(), |seconds| seconds.to_string());
        let live = if live { "live" } else { "next-attach" };
        let given = [
            device.map(|n| (Key::Device, format!("nbd{n}"))),
            Some((Key::Connections, connections.to_string())),
            Some((Key::ReadOnly, read_only.to_string())),
            block.map(|n| (Key::BlockSize, (512 << n).to_string())),
            Some((Key::DeadTimeout, dead)),
            Some((Key::ShutdownTimeout, shutdown.to_string())),
            Some((Key::SilenceTimeout, silence.to_string())),
            Some((Key::SettleTime, settle.to_string())),
            Some((Key::ConnectTimeout, connect.to_string())),
            io.map(|n| (Key::IoTimeout, n.to_string())),
            Some((Key::Resize, live.to_owned())),
            Some((Key::Root, root.to_string())),
        ];
        for (key, text) in given.into_iter().flatten() {
            let setting = Setting::read(key, &text).unwrap();
            setting.apply(&mut settings, &mut boot);
        }
        Some(settings)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(settings in settings()) {
        let found = read_text(to_toml(&settings));
        prop_assert_eq!(&found.problems, &[]);
        prop_assert_eq!(&found.exports[0].settings, &settings);
    }

    #[test]
    fn strings_are_written_so_that_they_are_read_back(text in "\\PC{0,40}[\\x00-\\x1f\"\\\\\x7f]{0,9}") {
        let file = format!("a = {}", quoted(&text));
        let table = DeTable::parse(&file).unwrap();
        prop_assert_eq!(table.get_ref()["a"].get_ref().as_str(), Some(text.as_str()));
    }

    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_text(bytes);
    }

    #[test]
    fn nothing_like_toml_makes_it_panic(text in "(uri|device|tls|a|=|\"|'|\\[|\\]|\\.|#|\n|\r| |nbd://h|1|true|\\{|\\}|,|\u{e4}|_|-){0,60}") {
        read_text(text);
    }

    #[test]
    fn values_of_any_kind_make_it_neither_panic_nor_silent(
        key in proptest::sample::select(Key::ALL),
        value in "(\"[a-z0-9:/]{0,12}\"|-?[0-9]{1,20}|true|[0-9]\\.[0-9]|\\[1\\]|2020-01-01|\\{a=1\\})",
    ) {
        let uri = if key == Key::Uri { "" } else { "uri = \"nbd://h\"\n" };
        let found = read_text(format!("{uri}{key} = {value}\n"));
        prop_assert_eq!(found.exports.len() + found.problems.len(), 1);
    }
}
