//! The files of `bindery init`: who owns them, and in which order they are written.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::Path,
};

use anyhow::{Context, ensure};
use rustix::process::geteuid;

use super::answers::Answers;
use crate::{config, domain::file_error::with_path};

/// The file with the relay's password, beside the configuration.
pub const PASSWORD_FILE: &str = "smtp-password";

/// The unit of the package, and where an operator adds to it.
const UNIT: &str = "/usr/lib/systemd/system/bindery.service";
const DROP_INS: &str = "/etc/systemd/system/bindery.service.d";

/// The user that will run the server.
pub enum Owner {
    /// Whoever runs this command.
    Me,
    /// Another one, to whom root gives the files.
    User { uid: u32, gid: u32 },
}

/// What to write where.
pub struct Written<'a> {
    pub output: &'a Path,
    pub text: &'a str,
    pub data_dir: &'a Path,
    pub owner: &'a Owner,
}

impl Owner {
    /// The owner of the files: the user with this name if root asks, otherwise whoever asks.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn of_files(user: &str) -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Me);
        }
        let (uid, gid) = config::user::ids_of(user).with_context(|| {
            format!(
                "there is no user '{user}': create it with 'useradd --system --home-dir /var/lib/bindery --shell /usr/sbin/nologin {user}', or name another one with --user"
            )
        })?;
        Ok(Self::User { uid, gid })
    }

    /// Gives a path to root and the group of the server, which may read it.
    fn let_group_read(&self, path: &Path) -> anyhow::Result<()> {
        self.give(path, |_, gid| (0, gid))
    }

    /// Gives a path to the server.
    fn give_to_server(&self, path: &Path) -> anyhow::Result<()> {
        self.give(path, |uid, gid| (uid, gid))
    }

    fn give(&self, path: &Path, to: impl Fn(u32, u32) -> (u32, u32)) -> anyhow::Result<()> {
        if let Self::User { uid, gid } = self {
            let (uid, gid) = to(*uid, *gid);
            chown(path, Some(uid), Some(gid)).map_err(with_path(path))?;
        }
        Ok(())
    }
}

/// Writes everything. The configuration comes last: if it is there, the rest is.
///
/// # Errors
/// If the configuration would not be usable, or a file cannot be written or exists already.
pub fn write(written: &Written<'_>, answers: &Answers) -> anyhow::Result<()> {
    let Written { output, text, owner, .. } = written;
    let directory = output.parent().context("the configuration needs a directory")?;
    if !directory.exists() {
        create_directory(directory, 0o750)?;
        owner.let_group_read(directory)?;
    }
    // A server that runs while this is written must not find half a file.
    let new = output.with_extension("toml.new");
    let _ = fs::remove_file(&new);
    create_file(&new, 0o640, text)?;
    let done = check_and_place(written, answers, &new);
    let _ = fs::remove_file(&new);
    done
}

fn check_and_place(written: &Written<'_>, answers: &Answers, new: &Path) -> anyhow::Result<()> {
    let Written { output, data_dir, owner, .. } = written;
    config::load(Some(new), std::iter::empty())?;
    owner.let_group_read(new)?;
    if !data_dir.exists() {
        create_directory(data_dir, 0o700)?;
        owner.give_to_server(data_dir)?;
    }
    if let Some(password) = &answers.relay_password {
        let file = output.with_file_name(PASSWORD_FILE);
        ensure!(
            !file.exists(),
            "{} exists already, and init overwrites nothing: remove it first",
            file.display()
        );
        create_file(&file, 0o600, &format!("{password}\n"))?;
        if *output == Path::new(config::DEFAULT_FILE) && Path::new(UNIT).exists() {
            pass_credential(&file)?;
        } else {
            owner.give_to_server(&file)?;
        }
    }
    // Unlike a rename, a link never replaces a file.
    fs::hard_link(new, output).map_err(with_path(output))?;
    Ok(())
}

/// systemd reads the password as root and gives it to the server alone (`LoadCredential=` in systemd.exec(5)).
fn pass_credential(file: &Path) -> anyhow::Result<()> {
    let directory = Path::new(DROP_INS);
    if !directory.exists() {
        create_directory(directory, 0o755)?;
    }
    let drop_in = format!(
        "# Made by `bindery init`. The server reads its copy; without the file, the unit fails.\n[Service]\nLoadCredential={PASSWORD_FILE}:{}\nEnvironment=BINDERY_MAIL__SMTP__PASSWORD_FILE=%d/{PASSWORD_FILE}\n",
        file.display()
    );
    let path = directory.join("smtp-password.conf");
    let _ = fs::remove_file(&path);
    create_file(&path, 0o644, &drop_in)
}

fn create_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(with_path(path))?;
    Ok(())
}

fn create_file(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let create = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    create().map_err(with_path(path))?;
    Ok(())
}
