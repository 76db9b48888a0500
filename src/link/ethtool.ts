import { ffi } from "../ffi/ffi.ts";
import { libc } from "../ffi/libc.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GDRVINFO = 0x03;
const ETHTOOL_GFLAGS = 0x25;
const ETHTOOL_SFLAGS = 0x26;
const ETH_FLAG_RXVLAN = 1 << 8;

/** One ethtool request: its own struct, behind a struct ifreq. @returns whether the driver took it; `data` is its answer */
function request(name: string, data: Uint8Array): boolean {
  const ifreq = new Uint8Array(40);
  ifreq.set(new TextEncoder().encode(name).subarray(0, 15));
  new DataView(ifreq.buffer).setBigUint64(16, ffi.address(data), true);
  const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    return libc.ioctl(socket, SIOCETHTOOL, ifreq) >= 0;
  } finally {
    libc.close(socket);
  }
}

/** struct ethtool_value. */
function flags(name: string): number | undefined {
  const value = Uint32Array.of(ETHTOOL_GFLAGS, 0);
  return request(name, new Uint8Array(value.buffer)) ? value[1] : undefined;
}

/** The driver's name; undefined where it does not tell. */
export function driverOf(name: string): string | undefined {
  const info = new Uint8Array(196); // struct ethtool_drvinfo
  new DataView(info.buffer).setUint32(0, ETHTOOL_GDRVINFO, true);
  if (!request(name, info)) return undefined;
  return new TextDecoder().decode(info.subarray(4, 36)).split("\0")[0];
}

/** Whether the NIC takes VLAN tags off before XDP sees the frame; false where it cannot be asked. */
export function stripsVlanTags(name: string): boolean {
  return ((flags(name) ?? 0) & ETH_FLAG_RXVLAN) !== 0;
}

/** Tells the NIC to strip VLAN tags, or not to. @returns whether it does as told */
export function stripVlanTags(name: string, isOn: boolean): boolean {
  const now = flags(name);
  if (now === undefined) return !isOn;
  const wanted = Uint32Array.of(ETHTOOL_SFLAGS, isOn ? now | ETH_FLAG_RXVLAN : now & ~ETH_FLAG_RXVLAN);
  request(name, new Uint8Array(wanted.buffer));
  return stripsVlanTags(name) === isOn;
}
