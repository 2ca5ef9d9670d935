//! One Kafka node in `KRaft` mode, broker and controller in one process, from the jars that Maven fetched.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::fetch::{self, Part};
use super::state::{Ports, Session, create_open_dir, digest, remove_dir};

/// What is the same on every machine.
const SETTINGS: &str = include_str!("../../../dev/services/kafka.properties");

/// The command that runs Kafka, with its configuration written and its storage formatted.
pub(super) fn prepare(session: &Session) -> Result<Command> {
    let java = fetch::java()?;
    let jars = fetch::part(session, Part::Kafka)?;
    let directory = session.paths.run.join("kafka");
    create_open_dir(&directory)?;
    let configuration = directory.join("server.properties");
    let data = directory.join("data");
    std::fs::write(&configuration, server_properties(session.state.ports, &data))
        .with_context(|| configuration.display().to_string())?;
    let logging = session.paths.root.join("dev/services/kafka-log4j2.properties");
    let tool = |class: &str| {
        let mut command = Command::new(&java);
        command.current_dir(&directory).args(["-XX:+UseSerialGC", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.arg("-cp").arg(jars.join("*")).arg(class);
        command
    };
    if !data.join("meta.properties").exists() {
        session.progress.step("formatting Kafka's storage");
        // An interrupted format leaves files without the mark.
        remove_dir(&data)?;
        format(tool("kafka.tools.StorageTool"), &configuration)?;
    }
    let mut command = tool("kafka.Kafka");
    command.arg(&configuration);
    Ok(command)
}

fn format(mut tool: Command, configuration: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let seed = format!("{} {}", configuration.display(), now.as_nanos());
    tool.args(["format", "--cluster-id", &cluster_id(digest(seed.as_bytes())), "--config"])
        .arg(configuration);
    let output = tool.output().context("cannot start Java")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        bail!("cannot format Kafka's storage:\n{said}");
    }
    Ok(())
}

/// A cluster id is 16 bytes in URL-safe base64: 22 characters, of which the last has four unused bits, zero in an `A`.
fn cluster_id(number: u64) -> String {
    format!("dev--{number:016x}A")
}

fn server_properties(ports: Ports, data: &Path) -> String {
    let Ports { kafka, kafka_controller, .. } = ports;
    format!(
        "{SETTINGS}\n\
         listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{kafka_controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}\n\
         controller.quorum.voters=1@127.0.0.1:{kafka_controller}\n\
         log.dirs={}\n",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_is_bound_to_this_machine_only() {
        let ports = Ports { kafka: 20_001, kafka_controller: 20_002, postgres: 1, redis: 2 };
        let properties = server_properties(ports, Path::new("/data"));
        let listeners = properties.lines().find_map(|line| line.strip_prefix("listeners=")).unwrap();
        assert_eq!(listeners, "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002");
        assert!(properties.ends_with("log.dirs=/data\n"));
    }

    #[test]
    fn a_setting_is_stated_once() {
        let ports = Ports { kafka: 1, kafka_controller: 2, postgres: 3, redis: 4 };
        let properties = server_properties(ports, Path::new("/data"));
        let mut names: Vec<&str> =
            properties.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_cluster_id_has_the_length_of_sixteen_bytes_in_base64() {
        assert_eq!(cluster_id(0).len(), 22);
        assert_eq!(cluster_id(u64::MAX), "dev--ffffffffffffffffA");
    }
}
