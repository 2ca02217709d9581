//! File systems for the plans that need root: small ones that fill up, and one whose power can be cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The shutdown ioctl of ext4 and xfs (`EXT4_IOC_SHUTDOWN`), with the flag not to write the journal: from then on the
/// device does not change. In Perl, because the call needs `unsafe` in Rust, and every Debian has Perl.
const CUT: &str =
    r#"open(F, "<", $ARGV[0]) or die "$!\n"; my $how = pack("L", 2); ioctl(F, 0x8004587D, $how) or die "$!\n";"#;

/// A mounted file system, unmounted when dropped.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts a file system in memory.
    pub(crate) fn tmpfs(at: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Mounts a directory a second time, read-only.
    pub(crate) fn read_only(of: &Path, at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount").arg("--bind").arg(of).arg(at))?;
        let mount = Self { at: at.to_owned() };
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at))?;
        Ok(mount)
    }

    /// Makes an ext4 file system in a sparse file.
    pub(crate) fn make_ext4(image: &Path, bytes: u64) -> Result<(), String> {
        fs::File::create(image).unwrap().set_len(bytes).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))
    }

    /// Mounts the file system in a file.
    pub(crate) fn image(image: &Path, at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    /// From now on no write reaches the device, and data that was not synced is lost.
    pub(crate) fn cut_power(&self) {
        run(Command::new("perl").args(["-e", CUT]).arg(&self.at)).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.at)) {
            eprintln!("{}: {error}", self.at.display());
        }
    }
}

/// Why plans that mount file systems cannot run here; `None` if they can.
pub(crate) fn unavailable(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let is_missing = |program: &&&str| {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", program])
            .stdout(Stdio::null())
            .status();
        !found.is_ok_and(|status| status.success())
    };
    let missing = programs.iter().find(is_missing);
    missing.map(|program| format!("needs {program}"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", stderr.trim()))
}
