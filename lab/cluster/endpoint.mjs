/** A web server behind a Service. It says which node it is on, and who asked. Usage: endpoint.mjs NAME PORT */
import { createServer } from "node:http";
import process from "node:process";

const [name, port] = process.argv.slice(2);

createServer((request, response) => {
  // One connection a request: each is to be balanced anew.
  response.setHeader("connection", "close").end(`${name}, asked by ${request.socket.remoteAddress}\n`);
}).listen(Number(port), "0.0.0.0");
