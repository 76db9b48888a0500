import process from "node:process";

try {
  // Not by an import statement: a library that is missing is told in one line, like everything else.
  const { main } = await import("./cli.ts");
  await main();
} catch (error) {
  for (const line of (error as Error).message.split("\n")) console.error(`isat: ${line}`);
  process.exitCode = 1;
}
