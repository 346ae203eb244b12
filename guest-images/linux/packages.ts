/**
 * Debian packages for riscv64 through the machine's own apt: its mirrors, proxies and keys, in a private root with a
 * foreign architecture. Nothing is installed; apt checks signatures and checksums.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where Debian keeps a 7.2 kernel for riscv64, best first: trixie's own is older than the RISC-V IOMMU's driver. */
const suites: readonly (readonly string[])[] = [['trixie', 'trixie-backports'], ['forky'], ['sid']];
const kernelPackage = /^linux-(binary|modules)-(7\.2\.\d+\S*-riscv64)$/;
const archiveBytes = 1 << 30;

/** Why there are no packages, one sentence. */
export class NoPackages extends Error {}

export interface Packages {
  /** Version of the kernel as it calls itself. */
  readonly kernel: string;
  /** Data archives (tar) by what they hold. */
  readonly archives: { readonly binary: () => Buffer; readonly modules: () => Buffer; readonly busybox: () => Buffer };
  /** Data archives of e2fsprogs and all that it needs; none where apt could not give them. */
  readonly fileSystemTools: () => Buffer[];
}

const hasCommand = (name: string): boolean => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0;

/** The archive that the machine gets Debian itself from. */
function debianArchive(): { readonly uri: string; readonly signedBy?: string } {
  const format = '$(ORIGIN)|$(LABEL)|$(SIGNED_BY)|$(REPO_URI)';
  const text = execFileSync('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']).toString();
  const found = text.split('\n').map((line) => line.split('|')).find(([origin, label]) => origin === 'Debian' && label === 'Debian'); // prettier-ignore
  const uri = found?.[3];
  if (uri === undefined) throw new NoPackages('apt of this machine knows no Debian archive');
  const signedBy = found?.[2];
  return signedBy?.startsWith('/') ? { uri, signedBy } : { uri };
}

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

class PrivateApt {
  readonly #root: string;
  readonly #options: readonly string[];

  constructor(root: string) {
    this.#root = root;
    for (const folder of ['lists/partial', 'archives/partial', 'state'])
      mkdirSync(join(root, folder), { recursive: true });
    writeFileSync(join(root, 'status'), '');
    const settings = {
      'Dir::Etc::sourcelist': join(root, 'sources.sources'),
      'Dir::Etc::sourceparts': '-',
      'Dir::Etc::preferences': '-',
      'Dir::Etc::preferencesparts': '-',
      'Dir::State': join(root, 'state'),
      'Dir::State::lists': join(root, 'lists'),
      'Dir::State::status': join(root, 'status'),
      'Dir::Cache': root,
      'APT::Architecture': 'riscv64',
      'APT::Architectures': 'riscv64',
      // The private root belongs to whoever runs this.
      'APT::Sandbox::User': '',
      'APT::Get::List-Cleanup': 'false',
      'Acquire::Languages': 'none',
    };
    this.#options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  }

  use(uri: string, names: readonly string[], key: string | undefined): void {
    const lines = [
      'Types: deb',
      `URIs: ${uri}`,
      `Suites: ${names.join(' ')}`,
      'Components: main',
      'Architectures: riscv64',
      ...(key === undefined ? [] : [`Signed-By: ${key}`]),
    ];
    writeFileSync(join(this.#root, 'sources.sources'), `${lines.join('\n')}\n`);
  }

  get(...args: readonly string[]): { readonly isOk: boolean; readonly said: string } {
    const { status, stdout, stderr } = spawnSync('apt-get', [...this.#options, ...args], { cwd: this.#root });
    return { isOk: status === 0, said: stdout.toString() + stderr.toString() };
  }

  names(pattern: string): string[] {
    const { stdout } = spawnSync('apt-cache', [...this.#options, 'pkgnames', pattern]);
    return stdout.toString().split('\n');
  }
}

/** Fetches the newest 7.2 kernel with its modules, and busybox, into `folder`; what is there already stays. */
export function fetchPackages(folder: string, say: (line: string) => void): Packages {
  if (!hasCommand('apt-get') || !hasCommand('dpkg-deb'))
    throw new NoPackages('apt-get and dpkg-deb are not on this machine');
  mkdirSync(folder, { recursive: true });
  const { uri, signedBy } = debianArchive();
  const apt = new PrivateApt(folder);
  const troubles: string[] = [];
  for (const names of suites) {
    apt.use(uri, names, signedBy ?? (existsSync(keyring) ? keyring : undefined));
    say(`looking for a kernel in ${names.join(' and ')}`);
    const update = apt.get('update');
    const error = /^E: (.*)$/m.exec(update.said)?.[1];
    const kernels = apt.names('linux-').flatMap((name) => kernelPackage.exec(name) ?? []);
    const versions = apt
      .names('linux-binary-')
      .flatMap((name) => kernelPackage.exec(name)?.[2] ?? [])
      .toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const kernel = versions.at(-1);
    if (kernel === undefined || kernels.length === 0) {
      troubles.push(`${names.join(' and ')}: ${error ?? 'no Linux 7.2'}`);
      continue;
    }
    const packages = [`linux-binary-${kernel}`, `linux-modules-${kernel}`, 'busybox-static'];
    say(`fetching ${packages.join(', ')}`);
    const download = apt.get('download', ...packages);
    if (!download.isOk) throw new NoPackages(/^E: (.*)$/m.exec(download.said)?.[1] ?? 'the download failed');
    const contents = (path: string): Buffer =>
      execFileSync('dpkg-deb', ['--fsys-tarfile', path], { maxBuffer: archiveBytes });
    const data = (name: string) => (): Buffer => {
      const newest = readdirSync(folder).filter((file) => file.startsWith(`${name}_`)).toSorted().at(-1)!; // prettier-ignore
      return contents(join(folder, newest));
    };
    say('fetching e2fsprogs and its libraries');
    // With nothing installed in the private root this downloads the whole closure.
    const tools = apt.get('install', '--download-only', '--yes', '--no-install-recommends', 'e2fsprogs');
    if (!tools.isOk) say(`no e2fsprogs: ${/^E: (.*)$/m.exec(tools.said)?.[1] ?? 'the download failed'}`);
    const cached = join(folder, 'archives');
    return {
      fileSystemTools: () =>
        readdirSync(cached)
          .filter((file) => tools.isOk && file.endsWith('.deb'))
          .map((file) => contents(join(cached, file))),
      kernel,
      archives: { binary: data(packages[0]!), modules: data(packages[1]!), busybox: data('busybox-static') },
    };
  }
  rmSync(join(folder, 'lists'), { recursive: true, force: true });
  throw new NoPackages(troubles.join('; '));
}
