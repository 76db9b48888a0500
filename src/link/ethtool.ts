import { ffi } from "../ffi/ffi.ts";
import { AF_INET, libc, SOCK_DGRAM } from "../ffi/libc.ts";

const SIOCETHTOOL = 0x8946;
const ETHTOOL = { GDRVINFO: 0x03, GFLAGS: 0x25, SFLAGS: 0x26 } as const;
const ETH_FLAG_RXVLAN = 1 << 8;

/** Sends an ethtool request; the driver writes its answer into `data`. @returns true if the driver accepts it */
function ethtool(name: string, data: Uint8Array): boolean {
  const ifreq = new Uint8Array(40); // struct ifreq, which points to the request
  ifreq.set(new TextEncoder().encode(name).subarray(0, 15));
  new DataView(ifreq.buffer).setBigUint64(16, ffi.address(data), true);
  const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    return libc.ioctl(socket, SIOCETHTOOL, ifreq) >= 0;
  } finally {
    libc.close(socket);
  }
}

/** The NIC's flags (ETH_FLAG_*); undefined if the driver does not report them. */
function readFlags(name: string): number | undefined {
  const value = Uint32Array.of(ETHTOOL.GFLAGS, 0); // struct ethtool_value
  return ethtool(name, new Uint8Array(value.buffer)) ? value[1] : undefined;
}

/** The driver's name; undefined if the driver does not report it. */
export function driverOf(name: string): string | undefined {
  const info = new Uint8Array(196); // struct ethtool_drvinfo
  new DataView(info.buffer).setUint32(0, ETHTOOL.GDRVINFO, true);
  if (!ethtool(name, info)) return undefined;
  return new TextDecoder().decode(info.subarray(4, 36)).split("\0")[0];
}

/** True if the NIC strips VLAN tags before XDP sees the frame; false if it cannot be asked. */
export function stripsVlanTags(name: string): boolean {
  return ((readFlags(name) ?? 0) & ETH_FLAG_RXVLAN) !== 0;
}

/** Sets whether the NIC strips VLAN tags. @returns true if the setting is as wanted afterwards */
export function stripVlanTags(name: string, isOn: boolean): boolean {
  const now = readFlags(name);
  if (now === undefined) return !isOn;
  const wanted = Uint32Array.of(ETHTOOL.SFLAGS, isOn ? now | ETH_FLAG_RXVLAN : now & ~ETH_FLAG_RXVLAN);
  ethtool(name, new Uint8Array(wanted.buffer));
  return stripsVlanTags(name) === isOn;
}
