//! A disk of its own for a replica: an ext4 image, mounted at the replica's directory. Its power can fail (everything that was not
//! fsynced is gone), it can hang, and fill up.
//!
//! Power fails by ext4's own shutdown request: from then on every write and fsync is an error and nothing reaches the image any more,
//! the journal included; the next mount recovers what the journal has. The journal's timer is set so long that it saves nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use raftmq_benches::BenchError;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::tools::run;

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH. Perl is essential on Debian; Rust could not do this without `unsafe`.
const SHUTDOWN: &str = r#"my $how = pack("L", 2);
for my $dir (@ARGV) { open(my $file, "<", $dir) or die "$dir: $!"; ioctl($file, 0x8004587D, $how) or die "$dir: $!"; }"#;
/// How often an unmount is tried: whoever was killed a moment ago may still be there.
const UNMOUNT_TRIES: u32 = 200;
/// Takes all the room there is.
const FILLER: &str = "filler";

#[derive(Debug, Default)]
struct State {
    mounted: bool,
    /// Its power failed and it was not mounted again.
    shut: bool,
    frozen: bool,
}

/// An image and where it is mounted; unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    dir: PathBuf,
    state: Mutex<State>,
}

impl Disk {
    /// Makes an image of so many MiB and mounts it at `dir`.
    ///
    /// # Errors
    /// Not root, no mkfs.ext4, no room.
    pub fn make(image: PathBuf, dir: PathBuf, mib: u64) -> Result<Self, BenchError> {
        fs::create_dir_all(&dir).map_err(BenchError::io(&dir))?;
        let file = File::create(&image).map_err(BenchError::io(&image))?;
        file.set_len(mib << 20).map_err(BenchError::io(&image))?;
        run(
            "mkfs.ext4",
            ["-q", "-F", "-m", "0", &image.to_string_lossy()],
        )?;
        let disk = Self {
            image,
            dir,
            state: Mutex::default(),
        };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), BenchError> {
        let (image, dir) = (self.image.to_string_lossy(), self.dir.to_string_lossy());
        run("mount", ["-o", "loop,commit=300", &image, &dir])?;
        *self.state.lock() = State {
            mounted: true,
            ..State::default()
        };
        Ok(())
    }

    fn unmount(&self) -> Result<(), BenchError> {
        let dir = self.dir.to_string_lossy();
        let mut tries = 0;
        while let Err(error) = run("umount", [&*dir]) {
            tries += 1;
            if tries >= UNMOUNT_TRIES {
                return Err(error);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.state.lock().mounted = false;
        Ok(())
    }

    /// Fails the power of these disks, at one moment as far as that goes. Whoever uses them gets errors.
    ///
    /// # Errors
    /// Perl or the kernel cannot; some may have failed.
    pub fn shut(disks: &[&Self]) -> Result<(), BenchError> {
        for disk in disks {
            disk.thaw()?;
        }
        let dirs = disks.iter().map(|disk| disk.dir.as_os_str());
        run(
            "perl",
            ["-e".as_ref(), SHUTDOWN.as_ref()].into_iter().chain(dirs),
        )?;
        for disk in disks {
            disk.state.lock().shut = true;
        }
        Ok(())
    }

    /// Whether its power failed and it was not mounted again.
    pub fn is_shut(&self) -> bool {
        self.state.lock().shut
    }

    /// Mounts a shut disk again, from its journal. Nobody may use it.
    ///
    /// # Errors
    /// It is in use, or cannot be recovered.
    pub fn recover(&self) -> Result<(), BenchError> {
        if self.is_shut() {
            self.unmount()?;
            self.mount()?;
        }
        Ok(())
    }

    /// Holds every write from now on.
    ///
    /// # Errors
    /// The system cannot.
    pub fn freeze(&self) -> Result<(), BenchError> {
        let mut state = self.state.lock();
        if !state.frozen {
            run("fsfreeze", ["-f".as_ref(), self.dir.as_os_str()])?;
            state.frozen = true;
        }
        Ok(())
    }

    /// Takes [`Self::freeze`] back.
    ///
    /// # Errors
    /// The system cannot.
    pub fn thaw(&self) -> Result<(), BenchError> {
        let mut state = self.state.lock();
        if state.frozen {
            run("fsfreeze", ["-u".as_ref(), self.dir.as_os_str()])?;
            state.frozen = false;
        }
        Ok(())
    }

    /// Takes all the room there is, and tells how many bytes that were.
    ///
    /// # Errors
    /// I/O.
    pub fn fill(&self) -> Result<u64, BenchError> {
        let path = self.dir.join(FILLER);
        let failed = |e: rustix::io::Errno| BenchError::io(&path)(e.into());
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(BenchError::io(&path))?;
        let before = self.room()?;
        // What is freed while this goes on is taken, too; a file's own bookkeeping takes a little.
        for piece in [64 << 20, 1 << 20, 4096_u64] {
            loop {
                let length = file.metadata().map_err(BenchError::io(&path))?.len();
                match fallocate(&file, FallocateFlags::empty(), length, piece) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::NOSPC) => break,
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(before.saturating_sub(self.room()?))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// I/O.
    pub fn free(&self) -> Result<(), BenchError> {
        let path = self.dir.join(FILLER);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(BenchError::io(path)(e));
            }
            _ => {}
        }
        // ext4 hands freed blocks out again only when the transaction that freed them is on the disk.
        let dir = File::open(&self.dir).map_err(BenchError::io(&self.dir))?;
        rustix::fs::syncfs(&dir).map_err(|e| BenchError::io(&self.dir)(e.into()))
    }

    /// Bytes that can still be taken.
    ///
    /// # Errors
    /// I/O.
    pub fn room(&self) -> Result<u64, BenchError> {
        let told = statvfs(&self.dir).map_err(|e| BenchError::io(&self.dir)(e.into()))?;
        Ok(told.f_bavail * told.f_frsize)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.thaw();
        if self.state.lock().mounted {
            let _ = self.unmount();
        }
    }
}

/// A directory whose mounts are the same in all mount namespaces: a disk that is unmounted here must not live on in the namespace
/// of a process that was started meanwhile, or the next mount would find it as it was.
#[derive(Debug)]
pub struct Shared(PathBuf);

impl Shared {
    /// # Errors
    /// Not root.
    pub fn make(dir: &Path) -> Result<Self, BenchError> {
        let text = dir.to_string_lossy();
        run("mount", ["--bind", &text, &text])?;
        let shared = Self(dir.to_owned());
        run("mount", ["--make-shared", &text])?;
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What a failed run left mounted below goes with it.
        let _ = run("umount", ["-R".as_ref(), "-l".as_ref(), self.0.as_os_str()]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use super::super::tools::is_root;
    use super::*;

    fn disk(dir: &Path) -> Option<(Shared, Disk)> {
        if !is_root() {
            println!("skipped: root is needed");
            return None;
        }
        let shared = Shared::make(dir).unwrap();
        let disk = Disk::make(dir.join("image"), dir.join("disk"), 128).unwrap();
        Some((shared, disk))
    }

    #[test]
    fn a_power_failure_takes_what_was_not_synced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let Some((_shared, disk)) = disk(dir.path()) else {
            return;
        };
        let path = dir.path().join("disk/file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        File::open(dir.path().join("disk"))
            .unwrap()
            .sync_all()
            .unwrap();
        file.write_all(b" and not").unwrap();
        File::create(dir.path().join("disk/unsynced")).unwrap();
        Disk::shut(&[&disk]).unwrap();
        assert!(disk.is_shut());
        assert!(file.sync_all().is_err(), "an fsync after the failure");
        drop(file);
        disk.recover().unwrap();
        assert!(!disk.is_shut());
        assert_eq!(fs::read(&path).unwrap(), b"synced");
        assert!(!dir.path().join("disk/unsynced").exists());
    }

    #[test]
    fn a_frozen_disk_holds_writes_until_it_is_thawed() {
        let dir = tempfile::tempdir().unwrap();
        let Some((_shared, disk)) = disk(dir.path()) else {
            return;
        };
        disk.freeze().unwrap();
        let path = dir.path().join("disk/file");
        let began = Instant::now();
        let writer = std::thread::spawn(move || {
            fs::write(path, "late").unwrap();
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(300));
        disk.thaw().unwrap();
        let written = writer.join().unwrap() - began;
        assert!(written >= Duration::from_millis(300), "{written:?}");
    }

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let dir = tempfile::tempdir().unwrap();
        let Some((_shared, disk)) = disk(dir.path()) else {
            return;
        };
        let path = dir.path().join("disk/file");
        assert!(disk.fill().unwrap() > 64 << 20);
        let error = fs::write(&path, [1; 100_000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert!(disk.room().unwrap() < 1 << 20);
        disk.free().unwrap();
        // The file system may hand the blocks out a moment after it has said that they are free.
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = fs::write(&path, [1; 100_000]) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
