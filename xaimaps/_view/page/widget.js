// The page of `xaimaps view` as a frame in a notebook: its questions go to Python, and come back.

function render({ model, el }) {
  const frame = Object.assign(document.createElement("iframe"), { srcdoc: model.get("page"), title: "xaimaps" });
  frame.sandbox = "allow-scripts allow-downloads";
  Object.assign(frame.style, { width: "100%", height: model.get("height"), border: "0" });
  const ask = ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    const { file, ...question } = data;
    model.send(question, undefined, file ? [file] : []);
  };
  const answer = (told) => frame.contentWindow?.postMessage(told, "*");
  window.addEventListener("message", ask);
  model.on("msg:custom", answer);
  el.append(frame);
  return () => {
    window.removeEventListener("message", ask);
    model.off("msg:custom", answer);
  };
}

export default { render };
