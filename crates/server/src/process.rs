//! What the process itself uses, as Linux tells it in `/proc`. Read through the disk's seam: where there is no such file, as in
//! the simulator, there are no figures.

use std::path::Path;

use quoris_raft::env::Disk;

/// Processor time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the names say it
pub struct Cpu {
    pub user_s: f64,
    pub system_s: f64,
    pub children_user_s: f64,
    pub children_system_s: f64,
}

/// Resident memory now and at most, in bytes.
pub fn memory(disk: &dyn Disk) -> Option<(u64, u64)> {
    let text = read(disk, "/proc/self/status")?;
    Some((kilobytes(&text, "VmRSS:")? * 1024, kilobytes(&text, "VmHWM:")? * 1024))
}

/// What the machine has, in bytes.
pub fn system_memory(disk: &dyn Disk) -> Option<u64> {
    Some(kilobytes(&read(disk, "/proc/meminfo")?, "MemTotal:")? * 1024)
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time.
pub fn cpu(disk: &dyn Disk) -> Option<Cpu> {
    parse_cpu(&read(disk, "/proc/self/stat")?)
}

/// Fields 14 to 17 of `/proc/self/stat` (proc(5)); the second may hold anything, in parentheses.
fn parse_cpu(stat: &str) -> Option<Cpu> {
    // Linux shows ticks of 1/100 s to programs, whatever its own.
    const TICKS_PER_S: f64 = 100.0;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
    let [user_s, system_s, children_user_s, children_system_s] =
        <[f64; 4]>::try_from(ticks).ok()?.map(|ticks| ticks / TICKS_PER_S);
    Some(Cpu { user_s, system_s, children_user_s, children_system_s })
}

fn read(disk: &dyn Disk, path: &str) -> Option<String> {
    String::from_utf8(disk.read_system(Path::new(path)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "12 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 3 4 20 0 1 0 1 1 1";
        let cpu = Cpu { user_s: 2.5, system_s: 0.5, children_user_s: 0.03, children_system_s: 0.04 };
        assert_eq!(parse_cpu(stat), Some(cpu));
        assert_eq!(parse_cpu("12 (a"), None);
        let disk = quoris_raft::env::os::OsDisk::new().expect("a disk");
        assert!(memory(&disk).is_some_and(|(rss, peak)| rss > 0 && peak >= rss));
        assert!(system_memory(&disk) > memory(&disk).map(|(rss, _)| rss));
    }
}
