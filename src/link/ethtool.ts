import { ffi } from "../ffi/ffi.ts";
import { errnoName, libc } from "../ffi/libc.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GFLAGS = 0x25;
const ETHTOOL_SFLAGS = 0x26;
const ETH_FLAG_RXVLAN = 1 << 8;

/** One ethtool request that carries a number: struct ethtool_value behind a struct ifreq. */
function request(name: string, command: number, data = 0): number | Error {
  const value = Uint32Array.of(command, data);
  const ifreq = new Uint8Array(40);
  ifreq.set(new TextEncoder().encode(name).subarray(0, 15));
  new DataView(ifreq.buffer).setBigUint64(16, ffi.address(new Uint8Array(value.buffer)), true);
  const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    if (libc.ioctl(socket, SIOCETHTOOL, ifreq) < 0) return new Error(errnoName(ffi.errno()));
    return value[1]!;
  } finally {
    libc.close(socket);
  }
}

/** Whether the NIC takes VLAN tags off before XDP sees the frame; false where it cannot be asked. */
export function stripsVlanTags(name: string): boolean {
  const flags = request(name, ETHTOOL_GFLAGS);
  return typeof flags === "number" && (flags & ETH_FLAG_RXVLAN) !== 0;
}

/** Tells the NIC to strip VLAN tags, or not to. @returns whether it does as told */
export function stripVlanTags(name: string, isOn: boolean): boolean {
  const flags = request(name, ETHTOOL_GFLAGS);
  if (typeof flags !== "number") return !isOn;
  request(name, ETHTOOL_SFLAGS, isOn ? flags | ETH_FLAG_RXVLAN : flags & ~ETH_FLAG_RXVLAN);
  return stripsVlanTags(name) === isOn;
}
