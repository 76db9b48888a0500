/** Parses `9e:a4:2c:fb:05:98`. @throws Error for other text */
export function parseMac(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text))
    throw new Error(`Cannot read "${text}" as a MAC: six hex pairs joined by colons are needed`);
  return Uint8Array.from(text.split(":"), (pair) => Number.parseInt(pair, 16));
}
